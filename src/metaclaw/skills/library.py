"""The skills folder.

Owns its layout and noticing that it changed; refuses to know which skill fits. Invariant: a broken skill is
skipped and said once, it never takes the others with it; and an agent's own skill stands before a shared one of the
same name.

``skills/<agent>/<name>/SKILL.md`` is an agent's own, ``skills/_shared/<name>/SKILL.md`` and
``skills/<name>/SKILL.md`` are everybody's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from metaclaw.errors import InvalidRequestError, SkillError
from metaclaw.identity import agent_id
from metaclaw.skills.ranking import SkillRanking
from metaclaw.skills.skill import FILE_NAME, Skill, read_skill

SHARED = "_shared"
_RESCAN_S = 1.0

_log = logging.getLogger(__name__)
_Stamp = tuple[int, int]  # time of change in ns, size


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSkills:
    """The skills that an agent sees at one moment."""

    by_name: dict[str, Skill] = field(default_factory=dict[str, Skill])
    ranking: SkillRanking = field(default_factory=lambda: SkillRanking(()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    stamp: _Stamp
    owner: str
    skill: Skill | None  # None: broken


class SkillLibrary:
    """Reads the folder anew when it changed, at most once a second; that and the ranking off the event loop."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._found: dict[Path, _Found] = {}
        self._views: dict[str, asyncio.Task[AgentSkills]] = {}
        self._scanned_at: float | None = None
        self._scan: asyncio.Task[None] | None = None

    async def visible(self, agent: str) -> AgentSkills:
        """What ``agent`` sees now."""
        if self._scanned_at is None or self._clock() - self._scanned_at >= _RESCAN_S:
            await self._refresh()
        views, found = self._views, self._found  # in this order: a scan may replace both on its thread meanwhile
        if agent not in views:
            # Off the loop too: an index of 200 skills takes a third of a second.
            views[agent] = asyncio.create_task(asyncio.to_thread(_view, agent, list(found.values())))
        return await asyncio.shield(views[agent])

    def scan(self) -> None:
        """Read what changed. Blocking; ``visible`` calls it on a thread."""
        found = {path: self._read(path, owner, stamp) for path, owner, stamp in _skill_folders(self._folder)}
        if found != self._found:
            self._found, self._views = found, {}
        self._scanned_at = self._clock()

    async def _refresh(self) -> None:
        if self._scan is None or self._scan.done():
            self._scan = asyncio.create_task(asyncio.to_thread(self.scan))
        await asyncio.shield(self._scan)  # others may wait for the same scan

    def _read(self, folder: Path, owner: str, stamp: _Stamp) -> _Found:
        known = self._found.get(folder)
        if known is not None and known.stamp == stamp:
            return known
        try:
            return _Found(stamp=stamp, owner=owner, skill=read_skill(folder))
        except SkillError as error:
            _log.warning("a skill is skipped: %s", error)
            return _Found(stamp=stamp, owner=owner, skill=None)


def _view(agent: str, found: list[_Found]) -> AgentSkills:
    shared = {one.skill.name: one.skill for one in found if one.skill and one.owner == SHARED}
    own = {one.skill.name: one.skill for one in found if one.skill and one.owner == agent}
    by_name = shared | own
    return AgentSkills(by_name=by_name, ranking=SkillRanking(list(by_name.values())))


def _skill_folders(root: Path) -> Iterator[tuple[Path, str, _Stamp]]:
    for folder in _folders(root):
        stamp = _stamp(folder)
        if stamp is not None:
            yield folder, SHARED, stamp
        elif folder.name == SHARED or _is_agent(folder.name):
            for inner in _folders(folder):
                inner_stamp = _stamp(inner)
                if inner_stamp is not None:
                    yield inner, folder.name, inner_stamp


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        _log.warning("the skills folder %s cannot be read: %s", root, error.strerror)
        return []


def _stamp(folder: Path) -> _Stamp | None:
    try:
        status = (folder / FILE_NAME).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _is_agent(name: str) -> bool:
    try:
        return agent_id(name) == name
    except InvalidRequestError:
        return False
