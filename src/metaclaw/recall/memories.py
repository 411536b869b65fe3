"""The memory as a source of recall.

Owns the one thread that reads it, and what happens when it cannot be read; refuses to write it and to know what is
worth remembering. Invariant: nothing here raises and nobody waits longer than ``PATIENCE_S``: a memory that is locked
or broken costs what would have been recalled, never a turn. What was served and cannot be checked now stays as it was
last seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from metaclaw.errors import JournalError
from metaclaw.memory.asking import Asking
from metaclaw.memory.forgetting import forgotten_ids
from metaclaw.memory.query import Found, MemoryQuery
from metaclaw.memory.standing import stands
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.times.asked import with_time
from metaclaw.memory.visibility import holds
from metaclaw.recall.candidates import About, Candidate
from metaclaw.recall.sections import memory_section

T = TypeVar("T")
PATIENCE_S = 1.0
MIN_TRUST = 0.2  # below it a memory is not told, not even as data
_NUM_WEIGHED = 16
_NUM_STANDING = 32  # from which those are taken that were not told yet
_NUM_KNOWN = 50_000  # ids of memories that were served

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whose:
    """Whose memories may be told at a turn, besides the agent's own."""

    user: str | None = None
    workspace: str | None = None
    session: str | None = None


def whose(about: About) -> Whose | None:
    """Whose memories ``about`` asks for; ``None`` for nobody's.

    ``X-Memory-Scope`` may narrow it to ``agent``, ``user``, ``workspace`` or ``session`` (the agent's own are always
    among them), or switch it off with ``none``; anything else is the name of a workspace, as older clients meant it.
    """
    match about.memory_scope:
        case None | "":
            return Whose(user=about.user, workspace=about.workspace, session=about.session)
        case "none":
            return None
        case "agent":
            return Whose()
        case "user":
            return Whose(user=about.user)
        case "workspace":
            return Whose(workspace=about.workspace)
        case "session":
            return Whose(session=about.session)
        case name:
            return Whose(user=about.user, workspace=about.workspace or name, session=about.session)


def recall_query(text: str, about: About, now: float, min_score: float) -> MemoryQuery | None:
    """What recall asks of the memory for ``text``; ``None`` when nobody's may be told."""
    owners = whose(about)
    if owners is None:
        return None
    return MemoryQuery(
        text=text,
        agent=about.agent,
        user=owners.user,
        workspace=owners.workspace,
        session=owners.session,
        now=now,
        limit=_NUM_WEIGHED,
        min_score=min_score / 2,  # what falls short is told to whoever asks why
        min_trust=MIN_TRUST,
        num_standing=_NUM_STANDING,
    )


def memory_candidate(found: Found, now: float, min_score: float) -> Candidate:
    """What was found, as recall weighs it."""
    unit = found.unit
    return Candidate(
        kind="memory",
        item=unit.id,
        score=found.score,
        section=memory_section(
            unit.text,
            source=unit.source,
            said_at=unit.said_at,
            trust=unit.trust,
            held_until=None if holds(unit, now) else unit.true_until,
        ),
        words=unit.text,
        turns=frozenset(unit.turns),
        is_fitting=found.score >= min_score,
        is_standing=stands(unit),
    )


class LastServed:
    """The memories that were there when they were last looked for, for when nobody can look."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}

    def among(self, ids: Collection[str]) -> frozenset[str]:
        """Those of ``ids`` that were there."""
        return frozenset(one for one in ids if one in self._ids)

    def note(self, ids: Collection[str], served: Collection[str]) -> None:
        """Of ``ids``, which were looked for, ``served`` are there."""
        for one in ids:
            self._ids.pop(one, None)
        self._ids |= dict.fromkeys(served)
        while len(self._ids) > _NUM_KNOWN:
            del self._ids[next(iter(self._ids))]


class StoredMemories:
    """Memories of ``units.db``, by words and, with ``asking``, by meaning.

    Used on the event loop; close it when the loop is done with it.
    """

    def __init__(
        self, path: Path, *, min_score: float, asking: Asking | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self._path = path
        self._asking = asking
        self._min_score = min_score
        self._patience_s = patience_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memory-reader")
        self._late: Future[Any] | None = None
        self._is_failing = False
        self._last_served = LastServed()
        self.num_failures = 0
        # The thread's own.
        self._store: MemoryStore | None = None
        self._file: tuple[int, int] | None = None
        self._is_made = False

    async def found(self, text: str, about: About, now: float) -> Sequence[Candidate]:
        """What fits ``text`` and may be told to whom it is about, best first; nothing without an answer in time."""
        query = recall_query(text, about, now, self._min_score)
        if query is None:
            return ()
        meaning = None if self._asking is None else await self._asking.meaning(text)
        found = await self._ask(lambda store: store.search(with_time(query), meaning), [])
        candidates = [memory_candidate(one, now, self._min_score) for one in found or ()]
        found_ids = [one.item for one in candidates]
        self._last_served.note(found_ids, found_ids)
        return candidates

    async def served(self, ids: Collection[str]) -> frozenset[str]:
        """Those of the memories that are neither forgotten nor distrusted, as far as that is known."""
        units = await self._ask(lambda store: store.get(ids), [])
        if units is None:
            return self._last_served.among(ids)
        served = frozenset(unit.id for unit in units if unit.trust >= MIN_TRUST)
        self._last_served.note(ids, served)
        return served

    async def forgotten(self) -> frozenset[str]:
        """The ids of all that was forgotten, as far as that is known."""
        return await self._ask(forgotten_ids, frozenset[str]()) or frozenset()

    async def close(self) -> None:
        """Close the file, once what runs is done."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        if self._store is not None:
            self._store.close()

    async def _ask(self, work: Callable[[MemoryStore], T], without_file: T) -> T | None:
        """What ``work`` says of the store, ``without_file`` when there is none; ``None`` when it does not answer."""
        if self._late is not None and not self._late.done():
            return None
        future = self._thread.submit(self._on_thread, work, without_file)
        try:
            async with asyncio.timeout(self._patience_s):
                answer = await asyncio.wrap_future(future)
        except TimeoutError:
            self._late = future
            self._failed(f"no answer within {self._patience_s:g} s")
        except JournalError as error:
            self._failed(str(error))
        else:
            self._is_failing = False
            return answer
        return None

    def _failed(self, why: str) -> None:
        self.num_failures += 1
        if not self._is_failing:
            _log.warning("memories are not recalled for the moment: %s", why)
        self._is_failing = True

    def _on_thread(self, work: Callable[[MemoryStore], T], without_file: T) -> T:
        store = self._opened()
        return without_file if store is None else work(store)

    def _opened(self) -> MemoryStore | None:
        """The store of the file that is there now: it may have been made, or replaced by another, meanwhile."""
        try:
            status = self._path.stat()
            file = status.st_dev, status.st_ino
        except OSError:
            file = None
        if file != self._file or self._store is None:
            if self._store is not None:
                self._store.close()
            self._store, self._file, self._is_made = None, file, False
            if file is not None:
                self._store = MemoryStore.open_reader(self._path)
        if self._store is not None and not self._is_made:
            self._is_made = self._store.is_made()  # whoever makes the file may be about to
        return self._store if self._is_made else None
