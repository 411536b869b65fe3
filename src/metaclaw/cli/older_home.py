"""A home that the reference system or its fork laid out, and what of it comes here.

Owns where their things lie and the report on each; refuses to know how a command looks. Invariants: nothing of theirs
is changed, made or removed; what is not taken is in the report; and done twice, the second time takes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from metaclaw.cli.older_settings import OlderSettings, older_settings
from metaclaw.config import Settings
from metaclaw.config_file import LooseFile, read_loosely, set_values
from metaclaw.errors import NotFoundError, SkillError
from metaclaw.memory.older_store import Scopes, Taking, Theirs, read_theirs, take, would_take
from metaclaw.memory.store import MemoryStore
from metaclaw.skills.importing import import_package
from metaclaw.skills.layout import SHARED
from metaclaw.skills.older_folder import OlderSkill, read_older
from metaclaw.skills.writer import SkillWriter

_FOLDER = ".metaclaw"  # what their home is called, wherever it is copied to
_LEFT: Mapping[str, str] = {
    "auth-profiles.json": "keys and logins of providers: `metaclaw config llm.api_key`, or the provider's own program",
    "calendar_token.json": "a login: `metaclaw scheduler login` makes a new one",
    "records": "conversations as they were sent, with what was injected: nothing here learns from that",
    "lora": "weights: no release of theirs wrote any that a training server here could take",
    "memory/policy.json": "memories have no policy that rewrites itself",
    "skills/evolution_history.jsonl": "who wrote which skill there",
}
SkillState = Literal["new", "unchanged", "copy", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillReport:
    """What becomes of one skill of theirs."""

    where: str
    owner: str
    name: str
    state: SkillState
    notes: tuple[str, ...] = ()
    was_evolved: bool = False  # their model wrote it


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReport:
    """What becomes of their memories: numbers by kind and by agent of what is new, and of the rest by reason."""

    found: int = 0
    new: int = 0
    known: int = 0
    forgotten: int = 0
    by_kind: Mapping[str, int]
    by_agent: Mapping[str, int]
    left_out: Mapping[str, int]
    left_out_ids: tuple[tuple[str, str], ...] = ()
    beside: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was done, or with ``applied`` false what would be."""

    source: Path
    applied: bool
    is_own_home: bool
    settings: OlderSettings
    skills: tuple[SkillReport, ...]
    memories: MemoryReport | None
    left: Mapping[str, str]


def import_home(source: Path, settings: Settings, *, default_agent: str, now: float, apply: bool) -> Report:
    """Bring what is in ``source`` into the home of ``settings``; without ``apply`` only say what would come of it.

    Raises ``NotFoundError`` when it is no such home, ``JournalError`` for a database that cannot be read.
    """
    home = _Home.read(source)
    is_own = source.resolve() == settings.home.resolve()
    chosen = OlderSettings() if is_own else home.settings_for(settings.home)
    skills = home.skills()
    owners = {one.owner for one in skills if one.owner != SHARED}
    scopes = Scopes(
        default=home.default_scope, default_agent=default_agent, agents=frozenset({*owners, *home.agents.values()})
    )
    theirs = read_theirs(home.memory_db, scopes, now=now) if home.memory_db else None  # before anything is written
    evolved = home.evolved()
    writer = SkillWriter(settings.skills_dir, own=settings.own_skills_dirs)
    reports = tuple(_bring(one, writer, now, evolved, dry=not apply) for one in skills)
    memories = None if theirs is None else _memories(theirs, settings.memory_db, apply=apply)
    if apply and chosen.values:
        set_values(settings.home, chosen.values)
    return Report(
        source=source,
        applied=apply,
        is_own_home=is_own,
        settings=chosen,
        skills=reports,
        memories=memories,
        left=home.left(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Home:
    """Where their things lie."""

    root: Path
    file: LooseFile
    skills_dir: Path
    own_skills_dirs: Mapping[str, Path]
    memory_db: Path | None
    agents: Mapping[str, str]

    @classmethod
    def read(cls, root: Path) -> _Home:
        path = root / "config.yaml"
        file = read_loosely(path) if path.exists() else LooseFile(leaves={}, given={}, warnings=())
        leaves = file.leaves
        skills = _place(root, leaves.get("skills.dir"), root / "skills")
        folder = _place(root, leaves.get("memory.dir"), root / "memory")
        store = _place(root, leaves.get("memory.store_path"), folder / "memory.db")
        if not path.exists() and not skills.is_dir() and not store.is_file():
            raise NotFoundError(f"{root} holds no config.yaml, no skills and no memory/memory.db of the older system")
        named = {name.removeprefix("agents.").removesuffix(".skills_dir"): value for name, value in leaves.items()
                 if name.startswith("agents.") and name.endswith(".skills_dir") and value}  # fmt: skip
        own = {agent: _place(root, value, root / "skills" / agent) for agent, value in named.items()}
        agents = older_settings(file, path, root).agents
        return cls(
            root=root,
            file=file,
            skills_dir=skills,
            own_skills_dirs={agents.get(agent, agent): place for agent, place in own.items() if place.parent != skills},
            memory_db=store if store.is_file() else None,
            agents=agents,
        )

    @property
    def default_scope(self) -> str:
        return str(self.file.leaves.get("memory.scope") or "default")

    def settings_for(self, home: Path) -> OlderSettings:
        return older_settings(self.file, self.root / "config.yaml", home)

    def skills(self) -> list[OlderSkill]:
        found = read_older(self.skills_dir)
        for agent, place in self.own_skills_dirs.items():
            found += read_older(place, owner=agent)
        return found

    def evolved(self) -> frozenset[str]:
        """The names of skills that their model wrote."""
        path = self.skills_dir / "evolution_history.jsonl"
        return frozenset(_names(path.read_text(encoding="utf-8", errors="replace"))) if path.is_file() else frozenset()

    def left(self) -> dict[str, str]:
        return {name: why for name, why in _LEFT.items() if (self.root / name).exists()}


def _names(text: str) -> Iterable[str]:
    for line in text.splitlines():
        try:
            record: Any = json.loads(line)
        except ValueError:
            continue
        names: Any = record.get("skill_names") if isinstance(record, dict) else None  # pyright: ignore
        yield from (str(name) for name in names if isinstance(names, list))  # pyright: ignore


def _place(root: Path, given: object, default: Path) -> Path:
    """Where something of theirs is: what they wrote as the place in their home is looked for in ``root``."""
    if not isinstance(given, str) or not given:
        return default
    path = Path(given)
    if _FOLDER in path.parts:
        last = len(path.parts) - path.parts[::-1].index(_FOLDER)
        moved = root.joinpath(*path.parts[last:])
        if moved.exists() or not path.expanduser().exists():
            return moved
    return root / path.expanduser()


def _bring(one: OlderSkill, writer: SkillWriter, now: float, evolved: frozenset[str], *, dry: bool) -> SkillReport:
    state, notes = "refused", one.notes
    if one.package is None:
        notes = (one.why_not,)
    elif one.is_copy:
        state = "copy"
    else:
        try:
            brought = import_package(one.package, one.owner, writer=writer, now=now, dry=dry)
            state = "new" if brought.changed else "unchanged"
        except SkillError as error:
            notes = (str(error),)
    return SkillReport(
        where=one.where, owner=one.owner, name=one.name, state=state, notes=notes, was_evolved=one.name in evolved
    )


def _memories(theirs: Theirs, path: Path, *, apply: bool) -> MemoryReport:
    if apply and theirs.units:
        with MemoryStore.open(path) as store:
            taking = take(store, theirs.units)
    elif path.exists():
        with MemoryStore.open_reader(path) as store:
            taking = would_take(store, theirs.units)
    else:
        taking = would_take(None, theirs.units)
    return _counted(theirs, taking)


def _counted(theirs: Theirs, taking: Taking) -> MemoryReport:
    left_out = (*theirs.left_out, *taking.left_out)
    return MemoryReport(
        found=len(theirs.units) + len(theirs.left_out),
        new=len(taking.new),
        known=taking.num_known,
        forgotten=taking.num_forgotten,
        by_kind=_numbers(unit.kind for unit in taking.new),
        by_agent=_numbers(unit.agent for unit in taking.new),
        left_out=_numbers(one.why for one in left_out),
        left_out_ids=tuple((one.id, f"{one.why}: {one.detail}" if one.detail else one.why) for one in left_out),
        beside=theirs.beside,
    )


def _numbers(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
