"""The memory of another process as a source of recall.

Owns what happens when that process is slow, gone or wrong; refuses to know how it is asked. Invariant: nothing here
raises: a memory that does not answer costs what would have been recalled, never a turn. What was served and cannot be
checked now stays as it was last seen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from metaclaw.errors import UpstreamError
from metaclaw.memory.query import Found, MemoryQuery
from metaclaw.recall.candidates import About, Candidate
from metaclaw.recall.memories import MIN_TRUST, LastServed, memory_candidate, recall_query

_REST_S = 5.0

_log = logging.getLogger(__name__)


class Service(Protocol):
    """The slice of the other process that is used here. All raise ``UpstreamError``."""

    async def search(self, query: MemoryQuery) -> list[Found]: ...
    async def served(self, ids: Collection[str], *, min_trust: float) -> frozenset[str]: ...
    async def forgotten(self) -> frozenset[str]: ...


class RemoteMemories:
    """Memories of ``service``. ``num_failures`` counts the times that it did not answer."""

    def __init__(self, service: Service, *, min_score: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._min_score = min_score
        self._clock = clock
        self._last_served = LastServed()
        self._is_failing = False
        self._rest_until = 0.0
        self.num_failures = 0

    async def found(self, text: str, about: About, now: float) -> Sequence[Candidate]:
        """What fits ``text`` and may be told to whom it is about, best first; nothing without an answer."""
        query = recall_query(text, about, now, self._min_score)
        if query is None or self._is_resting():
            return ()
        try:
            found = await self._service.search(query)
        except UpstreamError as error:
            self._failed(error)
            return ()
        self._answered()
        candidates = [memory_candidate(one, now, self._min_score) for one in found if one.unit.trust >= MIN_TRUST]
        found_ids = [one.item for one in candidates]
        self._last_served.note(found_ids, found_ids)
        return candidates

    async def served(self, ids: Collection[str]) -> frozenset[str]:
        """Those of the memories that are neither forgotten nor distrusted, as far as that is known."""
        if self._is_resting():
            return self._last_served.among(ids)
        try:
            served = await self._service.served(ids, min_trust=MIN_TRUST)
        except UpstreamError as error:
            self._failed(error)
            return self._last_served.among(ids)
        self._answered()
        self._last_served.note(ids, served)
        return served

    async def forgotten(self) -> frozenset[str]:
        """The ids of all that was forgotten, as far as that is known."""
        try:
            return await self._service.forgotten()
        except UpstreamError:
            return frozenset()  # it is asked again in a moment

    def _is_resting(self) -> bool:
        if not self._is_failing:
            return False
        if self._clock() < self._rest_until:
            self.num_failures += 1
            return True
        self._rest_until = self._clock() + _REST_S  # one tries, the others do not wait for it
        return False

    def _answered(self) -> None:
        if self._is_failing:
            _log.info("the memory answers again")
        self._is_failing = False

    def _failed(self, error: UpstreamError) -> None:
        self.num_failures += 1
        self._rest_until = self._clock() + _REST_S
        if not self._is_failing:
            _log.warning("memories are not recalled for the moment: %s", error)
        self._is_failing = True
