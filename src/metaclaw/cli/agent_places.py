"""Where an agent's things are: counted, moved to another name, removed.

Owns the list of places and the order in which they are gone through; refuses to know how a command looks. Invariants:
what changes an agent has the home to itself; and a rename that has begun is carried to its end: what it is about is
written down first (``agents-rename.json``), every step may be done twice, and whoever holds the home next ends it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from metaclaw.config import Settings
from metaclaw.config_file import agent_group, move_agent_group
from metaclaw.errors import ConflictError, NotFoundError
from metaclaw.identity import DEFAULT_AGENT
from metaclaw.journal.agents import remove_rows, rename_rows, rows_of_agents
from metaclaw.journal.turn_writer import TurnJournal
from metaclaw.memory.agents import remove_memory, rename_memory
from metaclaw.processes.instance import held_pid_file
from metaclaw.skills.layout import skill_folders
from metaclaw.skills.owners import agent_folders, owned_by, remove_owner, rename_owner

_INTENT = "agents-rename.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What there is of an agent. ``tokens`` are those that may be it alone."""

    agent: str
    turns: int = 0
    memories: int = 0
    skills: int = 0
    samples: int = 0
    versions: int = 0
    tokens: int = 0
    has_folder: bool = False  # for skills
    has_waiting_adapter: bool = False  # imported, and not at the training server yet
    settings: dict[str, object] = field(default_factory=dict[str, object])

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing at all."""
        return self == Holdings(agent=self.agent)

    def counts(self) -> dict[str, int]:
        """The numbers alone, by what they count."""
        return {name: value for name, value in asdict(self).items() if type(value) is int}


def all_holdings(settings: Settings) -> list[Holdings]:
    """Every agent that there is anything of, by name."""
    turns, learned = rows_of_agents(settings.turns_db), rows_of_agents(settings.learning_db)
    memory, tokens = rows_of_agents(settings.memory_db), rows_of_agents(settings.access_db)
    skills: dict[str, int] = {}
    for _, owner, _ in skill_folders(settings.skills_dir, settings.own_skills_dirs):
        skills[owner] = skills.get(owner, 0) + 1
    named = agent_names_in_settings(settings)
    folders, waiting = agent_folders(settings.skills_dir), agent_folders(settings.imported_adapters)
    agents = {*turns, *learned, *memory, *tokens, *skills, *named, *folders, *waiting} - {"_shared", "*"}
    return [
        Holdings(
            agent=agent,
            turns=turns.get(agent, {}).get("turns", 0),
            memories=memory.get(agent, {}).get("units", 0),
            skills=skills.get(agent, 0),
            samples=learned.get(agent, {}).get("samples", 0),
            versions=learned.get(agent, {}).get("versions", 0),
            tokens=tokens.get(agent, {}).get("tokens", 0),
            has_folder=agent in folders,
            has_waiting_adapter=agent in waiting,
            settings=agent_group(settings.home, agent),
        )
        for agent in sorted(agents)
    ]


def holdings_of(settings: Settings, agent: str) -> Holdings:
    """What there is of one agent; empty when there is nothing."""
    return next((one for one in all_holdings(settings) if one.agent == agent), Holdings(agent=agent))


def agent_names_in_settings(settings: Settings) -> list[str]:
    """The agents that ``agents`` of config.yaml names."""
    return list(settings.agents.named)


@contextmanager
def alone(settings: Settings) -> Generator[None]:
    """Have the home to oneself. Raises ``ProcessError`` that says to stop MetaClaw first."""
    with held_pid_file(settings.home):
        _end_rename(settings)
        if settings.turns_db.exists():  # what a killed gateway left in its spool is in the journal before it is changed
            journal = TurnJournal(settings.turns_db)
            journal.open()
            journal.close()
        yield


def end_begun_rename(settings: Settings) -> None:
    """For whoever is about to start on a home: end a rename that was cut off."""
    if (settings.home / _INTENT).exists():
        with alone(settings):
            pass


def rename(settings: Settings, old: str, new: str) -> Holdings:
    """Make everything of ``old`` that of ``new``, which must be nobody yet. Within ``alone``."""
    found = holdings_of(settings, old)
    if found.is_empty:
        raise NotFoundError(f"there is nothing of an agent {old!r}; `metaclaw agents list` has all")
    if not holdings_of(settings, new).is_empty:
        raise ConflictError(f"there is an agent {new!r} already; two agents never become one")
    intent = settings.home / _INTENT
    _write_durably(intent, json.dumps({"old": old, "new": new}))
    _end_rename(settings)
    return found


def remove(settings: Settings, agent: str, now: float) -> Holdings:
    """Remove everything of ``agent`` that is on this machine. Within ``alone``. Done again it ends what was cut off."""
    found = holdings_of(settings, agent)
    if found.is_empty:
        raise NotFoundError(f"there is nothing of an agent {agent!r}; `metaclaw agents list` has all")
    remove_rows(settings.access_db, agent)  # first, so that nobody comes in as it any more
    remove_memory(settings.memory_db, agent, now)
    for path in (settings.turns_db, settings.learning_db, settings.requests_db):
        remove_rows(path, agent)
    remove_owner(settings.skills_dir, agent, settings.own_skills_dirs)
    shutil.rmtree(settings.imported_adapters / agent, ignore_errors=True)
    if agent != DEFAULT_AGENT or found.settings:
        move_agent_group(settings.home, agent, None)
    return found


def skills_of(settings: Settings, agent: str) -> dict[str, Path]:
    """The folders of its own skills, by name."""
    return owned_by(settings.skills_dir, agent, settings.own_skills_dirs)


def _end_rename(settings: Settings) -> None:
    intent = settings.home / _INTENT
    if not intent.exists():
        return
    asked = json.loads(intent.read_text(encoding="utf-8"))
    old, new = asked["old"], asked["new"]
    rename_memory(settings.memory_db, old, new)
    for path in (settings.turns_db, settings.learning_db, settings.requests_db, settings.access_db):
        rename_rows(path, old, new)
    rename_owner(settings.skills_dir, old, new)
    if (settings.imported_adapters / old).is_dir():
        (settings.imported_adapters / old).rename(settings.imported_adapters / new)
    move_agent_group(settings.home, old, new)
    intent.unlink()


def _write_durably(path: Path, text: str) -> None:
    beside = path.with_suffix(".tmp")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
