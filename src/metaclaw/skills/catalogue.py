"""All skills there are, for people to look at.

Owns the list over all layers and which one a name means; refuses to know commands. Invariant: it shows what is
broken, covered or switched off too, and never guesses between two skills of one name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import SkillError
from metaclaw.skills.layout import SHARED, STARTER
from metaclaw.skills.library import FoundSkill
from metaclaw.skills.retired import Retired
from metaclaw.skills.skill import FILE_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One skill of one layer. ``retired_for`` are the agents (``*``: all) that are not served it."""

    name: str
    owner: str
    description: str
    category: str
    path: Path
    retired_for: tuple[str, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()


def all_entries(found: Iterable[FoundSkill], retired: Retired) -> list[Entry]:
    """Every skill, by owner and name."""
    entries = [_entry(one, retired) for one in found]
    return sorted(entries, key=lambda one: (one.owner, one.name))


def seen_by(entries: Iterable[Entry], agent: str) -> list[Entry]:
    """What ``agent`` is served: for each name the highest layer, without what is broken or switched off for it."""
    seen: dict[str, Entry] = {}
    rank = {STARTER: 0, SHARED: 1, agent: 2}
    for entry in entries:
        is_off = bool({agent, "*"} & set(entry.retired_for))
        if entry.owner not in rank or entry.error or is_off:
            continue
        if entry.name not in seen or rank[seen[entry.name].owner] < rank[entry.owner]:
            seen[entry.name] = entry
    return sorted(seen.values(), key=lambda one: one.name)


def one_named(entries: Iterable[Entry], name: str, agent: str | None) -> Entry:
    """The skill that ``name`` means, for ``agent`` or at all. Raises ``SkillError``."""
    owners = (agent, SHARED, STARTER)
    named = [one for one in entries if one.name == name and (agent is None or one.owner in owners)]
    for owner in (agent, SHARED):
        own = [one for one in named if one.owner == owner]
        if own:
            return own[0]
    agents = [one for one in named if one.owner != STARTER]
    if len(agents) > 1:
        whose = ", ".join(one.owner for one in agents)
        raise SkillError(f"{whose} each have a skill {name!r}; say which with --agent")
    if not named:
        whose = f"for agent {agent!r}" if agent else "here"
        raise SkillError(f"there is no skill {name!r} {whose}; see `metaclaw skills list`")
    return (agents or named)[0]


def _entry(one: FoundSkill, retired: Retired) -> Entry:
    name = one.skill.name if one.skill else one.folder.name
    return Entry(
        name=name,
        owner=one.owner,
        description=one.skill.description if one.skill else "",
        category=one.skill.category if one.skill else "",
        path=one.folder / FILE_NAME,
        retired_for=tuple(sorted(agent for agent, retired_name in retired.pairs if retired_name == name)),
        error=one.error,
        notes=one.skill.notes if one.skill else (),
    )
