"""Settings of an older system's home, as they would be in this one.

Owns which of its keys are taken over and why the others are not; refuses to know about skills and memories. Invariants:
what is set here already stays; no setting leads into the other home, so that nothing is ever written there; and what is
taken is valid as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaclaw.config_file import LooseFile, config_path, read_loosely
from metaclaw.config_keys import Given, build_settings, known_key
from metaclaw.config_legacy import close_default_host
from metaclaw.config_names import ID, steps_of, template_of
from metaclaw.errors import ConfigError, InvalidRequestError
from metaclaw.identity import agent_id

# Places of their things. What is in them is taken over by itself; the places stay theirs.
_PLACES = ("skills.dir", "memory.dir", f"agents.{ID}.skills_dir", "scheduler.calendar.token_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderSettings:
    """``values`` to be set here, by name; ``notes`` on what is not; ``agents`` that theirs name, as they are here."""

    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()
    agents: Mapping[str, str] = field(default_factory=dict[str, str])  # theirs -> ours


def older_settings(theirs: LooseFile, path: Path, home: Path) -> OlderSettings:
    """What of ``theirs``, read from ``path``, is set in ``home``."""
    notes = list(theirs.warnings)
    given = dict(theirs.given)
    notes += close_default_host(given, str(path))
    agents: dict[str, str] = {}
    named = [(_with_valid_agent(name, agents, notes), entry) for name, entry in given.items()]
    given = {name: entry for name, entry in named if name is not None}
    own = config_path(home)
    here = read_loosely(own).given if own.exists() else {}
    wanted: dict[str, Any] = {}
    for name, entry in given.items():
        key = known_key(name)
        if key is None or entry.value in ("", None) or entry.value == key.default:
            continue
        if template_of(name) in _PLACES:
            notes.append(f"{name}: what lies there is taken over, the place is not")
        elif name in here:
            if here[name].value != entry.value:
                notes.append(f"{name} is set here already and stays as it is")
        else:
            wanted[name] = _moved(name, entry.value, path.parent)
    values = _valid(wanted, here, home, notes)
    if trained := sorted(name for name, value in values.items() if name in _modes(values) and value != "skills_only"):
        notes.append(f"{', '.join(trained)}: a model that is trained here answers then, no longer llm alone")
    return OlderSettings(values=values, notes=tuple(notes), agents=agents)


def _modes(values: Mapping[str, Any]) -> list[str]:
    return [name for name in values if name == "mode" or template_of(name) == f"agents.{ID}.mode"]


def _moved(name: str, value: Any, theirs: Path) -> Any:
    """A place in their home is the same one in ours, whose relative paths begin there."""
    if template_of(name) != f"agents.{ID}.lora_output" or not isinstance(value, str):
        return value
    inside = Path(value).expanduser()
    if ".metaclaw" in Path(value).parts:
        parts = Path(value).parts
        return str(Path(*parts[len(parts) - parts[::-1].index(".metaclaw") :]))
    return str(inside.relative_to(theirs)) if inside.is_relative_to(theirs) else value


def _with_valid_agent(name: str, agents: dict[str, str], notes: list[str]) -> str | None:
    steps = steps_of(name)
    if len(steps) < 3 or steps[0] != "agents":
        return name
    theirs = steps[1]
    try:
        ours = agent_id(theirs)
    except InvalidRequestError as error:
        notes.append(f"{name}: {error}")
        return None
    if agents.setdefault(theirs, ours) != theirs:
        notes.append(f"{name}: agent ids are lower case, so it is {ours!r} here")
    return ".".join(("agents", ours, *steps[2:]))


def _valid(wanted: dict[str, Any], here: Mapping[str, Given], home: Path, notes: list[str]) -> dict[str, Any]:
    why = _why_invalid(wanted, here, home)
    if why is None:
        return wanted
    modes = _modes(wanted)
    calmer = {name: value for name, value in wanted.items() if name not in modes}
    if modes and _why_invalid(calmer, here, home) is None:
        notes.append(f"{', '.join(modes)}: stays as it is here, because {why}")
        return calmer
    kept: dict[str, Any] = {}
    for name, value in calmer.items():
        if (wrong := _why_invalid({**kept, name: value}, here, home)) is None:
            kept[name] = value
        else:
            notes.append(f"{name} is not taken: {wrong}")
    return kept


def _why_invalid(values: Mapping[str, Any], here: Mapping[str, Given], home: Path) -> str | None:
    given = {name: Given(value=value, origin="theirs") for name, value in values.items()}
    try:
        build_settings({**here, **given}, home)
    except ConfigError as error:
        return str(error)
    return None
