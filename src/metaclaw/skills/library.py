"""The skills that are served.

Owns the layers and noticing that a file changed; refuses to know which skill fits. Invariant: a broken skill is
skipped and said once, it never takes the others with it; an agent's own skill stands before a shared one of the same
name, and that before a starter skill; and what is retired is in none of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from metaclaw.errors import SkillError
from metaclaw.skills.layout import NOWHERE_ELSE, SHARED, STARTER, Own, Stamp, stamps_of_skills, stamps_of_starters
from metaclaw.skills.ranking import SkillRanking
from metaclaw.skills.retired import Retired, parse_retired, read_retired_text
from metaclaw.skills.skill import Skill, read_skill

_RESCAN_S = 1.0
_LOOK_EVERY_S = 0.8  # a little sooner, so that who asks finds it done
_LONGEST_LOOK_EVERY_S = 4.0
_LOOKING_SHARE = 0.005  # of the time, however many skills there are: looking at thousands gets in the way of turns
_ASKED_LATELY_S = 600.0
_PATIENCE_S = 2.0
_NOBODY = ""  # no agent's name: the view of those who have nothing of their own

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSkills:
    """The skills that an agent sees at one moment; ``owners`` says which layer each is from."""

    by_name: dict[str, Skill] = field(default_factory=dict[str, Skill])
    owners: dict[str, str] = field(default_factory=dict[str, str])
    ranking: SkillRanking = field(default_factory=lambda: SkillRanking(()))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSkill:
    """A folder with a ``SKILL.md``. ``skill`` is ``None`` when it is broken; then ``error`` says how."""

    folder: Path
    owner: str
    stamp: Stamp
    skill: Skill | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    stamps: Mapping[str, tuple[str, Stamp]] = field(default_factory=dict[str, tuple[str, Stamp]])
    found: Mapping[str, FoundSkill] = field(default_factory=dict[str, FoundSkill])
    retired_text: str = ""
    retired: Retired = field(default_factory=Retired)
    agents: frozenset[str] = frozenset()
    views: dict[str, asyncio.Task[AgentSkills]] = field(default_factory=dict[str, "asyncio.Task[AgentSkills]"])

    def key(self, agent: str) -> str:
        # Agents with nothing of their own share one view: a client may name any number of agents.
        return agent if agent in self.agents else _NOBODY


class SkillLibrary:
    """Reads the folder anew when it changed, at most once a second; that and the ranking off the event loop.

    Who asks waits until it was looked at, unless ``keep_fresh`` did so lately: within the last second, or within some
    where looking itself takes long.

    ``starter`` is the folder of the layer below everybody's, ``own`` the folders of agents that keep theirs elsewhere.
    Who has seen the skills before waits for a change ``patience_s`` at most, and meanwhile sees what was there before.
    """

    def __init__(
        self,
        folder: Path,
        *,
        starter: Path | None = None,
        own: Own = NOWHERE_ELSE,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._folder = folder
        self._starter = starter
        self._own = own
        self._clock = clock
        self._patience_s = patience_s
        self._now = _Snapshot()
        self._served: dict[str, AgentSkills] = {}
        self._scanned_at: float | None = None
        self._asked_at: float | None = None
        self._fresh_s = _RESCAN_S
        self._scan: asyncio.Task[None] | None = None
        self._late: set[asyncio.Task[AgentSkills]] = set()

    async def visible(self, agent: str) -> AgentSkills:
        """What ``agent`` sees now."""
        self._asked_at = self._clock()
        if (current := self._known_now(agent)) is not None:
            return current
        older = self._served.get(self._now.key(agent))
        coming = asyncio.create_task(self._current(agent))
        self._late.add(coming)
        coming.add_done_callback(self._late.discard)
        if older is not None:
            await asyncio.wait({coming}, timeout=self._patience_s)
            if not coming.done():
                return older
        return await coming

    def look_into(self, own: Own) -> None:
        """Agents that keep their skills elsewhere keep them in these folders now: the next look is into them."""
        if dict(own) != dict(self._own):
            self._own = own
            self._scanned_at = None

    async def keep_fresh(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look again and again while somebody has asked in the last minutes, so that who asks need not wait for it."""
        took_s = 0.0
        while True:
            pause_s = min(max(_LOOK_EVERY_S, took_s / _LOOKING_SHARE), _LONGEST_LOOK_EVERY_S)
            self._fresh_s = _RESCAN_S / _LOOK_EVERY_S * pause_s
            await pause(pause_s)
            if self._asked_at is not None and self._clock() - self._asked_at < _ASKED_LATELY_S:
                began_at = self._clock()
                await self._looked()
                took_s = self._clock() - began_at
                for agent in list(self._served):
                    await self._current(agent)

    def scan(self) -> None:
        """Read what changed. Blocking; ``visible`` calls it on a thread."""
        own = self._own
        stamps = stamps_of_skills(self._folder, own)
        if self._starter is not None:
            stamps |= stamps_of_starters(self._starter)
        retired_text = self._retired_text()
        before = self._now
        if retired_text != before.retired_text or stamps != before.stamps:
            found = {path: self._read(path, owner, stamp) for path, (owner, stamp) in stamps.items()}
            retired = parse_retired(retired_text, self._folder)
            agents = frozenset({one.owner for one in found.values()} | {agent for agent, _ in retired.pairs})
            self._now = _Snapshot(stamps=stamps, found=found, retired_text=retired_text, retired=retired, agents=agents)
        if own is self._own:  # else it was into folders of before
            self._scanned_at = self._clock()

    def found(self) -> list[FoundSkill]:
        """Every skill of every layer as the last scan saw it, the broken ones too."""
        return list(self._now.found.values())

    def retired(self) -> Retired:
        """What the last scan saw switched off."""
        return self._now.retired

    def _known_now(self, agent: str) -> AgentSkills | None:
        """What it sees, when nothing need be looked at for that."""
        snapshot = self._now
        view = None if self._is_stale() else snapshot.views.get(snapshot.key(agent))
        return view.result() if view is not None and view.done() and not view.cancelled() else None

    def _is_stale(self) -> bool:
        return self._scanned_at is None or self._clock() - self._scanned_at >= self._fresh_s

    async def _current(self, agent: str) -> AgentSkills:
        if self._is_stale():
            await self._looked()
        snapshot = self._now  # a scan may replace it on its thread meanwhile
        key = snapshot.key(agent)
        if key not in snapshot.views:
            # Off the loop too: an index of 200 skills takes a third of a second.
            snapshot.views[key] = asyncio.create_task(asyncio.to_thread(_view, agent, snapshot))
        view = await asyncio.shield(snapshot.views[key])
        if snapshot is self._now:
            self._served[key] = view
        return view

    async def _looked(self) -> None:
        if self._scan is None or self._scan.done():
            self._scan = asyncio.create_task(asyncio.to_thread(self.scan))
        await asyncio.shield(self._scan)  # others may wait for the same scan

    def _read(self, path: str, owner: str, stamp: Stamp) -> FoundSkill:
        known, folder = self._now.found.get(path), Path(path)
        if known is not None and known.stamp == stamp:
            return known
        time.sleep(0)  # lets the event loop in: parsing thousands of files would hold it up
        try:
            skill = read_skill(folder)
        except SkillError as error:
            _log.warning("a skill is skipped: %s", error)
            return FoundSkill(folder=folder, owner=owner, stamp=stamp, error=str(error))
        for note in skill.notes:
            _log.warning("a skill is read, but: %s", note)
        return FoundSkill(folder=folder, owner=owner, stamp=stamp, skill=skill)

    def _retired_text(self) -> str:
        try:
            return read_retired_text(self._folder)
        except SkillError as error:
            _log.warning("%s", error)
            return self._now.retired_text


def _view(agent: str, snapshot: _Snapshot) -> AgentSkills:
    by_name: dict[str, Skill] = {}
    owners: dict[str, str] = {}
    for layer in (STARTER, SHARED, agent):
        for one in snapshot.found.values():
            if one.owner == layer and one.skill and not snapshot.retired.covers(agent, one.skill.name):
                by_name[one.skill.name], owners[one.skill.name] = one.skill, one.owner
    return AgentSkills(by_name=by_name, owners=owners, ranking=SkillRanking(list(by_name.values())))
