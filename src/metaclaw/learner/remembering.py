"""The job that reads what was said for what is worth remembering.

Owns the reading of due exchanges, one after another, and what happens when an extractor fails; refuses to know when an
exchange is due and how a memory is found. Invariant: what was found in an exchange and that it was read are written in
one transaction, so that no kill loses a memory or makes one twice.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from metaclaw.errors import UpstreamError
from metaclaw.journal.learning import Clock
from metaclaw.journal.turns import MEMORY_ITEM, Feedback, RecordedExchange, TurnReader
from metaclaw.memory.extraction.elsewhere import ToldExchange, waiting
from metaclaw.memory.extraction.findings import Extractor, Found, Material
from metaclaw.memory.extraction.materials import (
    asked_in,
    feedback_key,
    material_of,
    material_of_feedback,
    material_told,
)
from metaclaw.memory.extraction.remembered import extraction_of
from metaclaw.memory.extraction.unread import UnreadExchanges
from metaclaw.memory.store import Extraction, MemoryStore
from metaclaw.memory.units import new_id as any_id

_log = logging.getLogger(__name__)

_MIN_ASKED = 2  # a session of one question needs no summary
_REFUSES_THIS_REQUEST = (400, 413, 422)  # any other failure would meet another exchange just the same


class Remembering:
    """Reads exchanges with an extractor; ``fallback`` reads what it refuses, and what is older than ``max_age_s``."""

    name = "remembering"

    def __init__(
        self,
        *,
        turns_db: Path,
        store: MemoryStore,
        unread: UnreadExchanges,
        extractor: Extractor,
        fallback: Extractor,
        max_age_s: float = math.inf,
        poll_s: float = 5.0,
        clock: Clock = time.time,
        new_id: Callable[[], str] = any_id,
    ) -> None:
        self.poll_s = poll_s
        self._turns_db = turns_db
        self._store = store
        self._unread = unread
        self._extractor = extractor
        self._fallback = fallback
        self._max_age_s = max_age_s
        self._clock = clock
        self._new_id = new_id
        self._turn = asyncio.Lock()  # one thread at a time may use the store

    async def step(self) -> bool:
        """Read what is due. Raises ``UpstreamError`` when the extractor's model is away: all waits until it is back."""
        async with self._turn:
            now = self._clock()
            due = await asyncio.to_thread(self._unread.due, now)
            told = await asyncio.to_thread(self._unread.told, now)
            feedback = await asyncio.to_thread(self._unread.feedback)
            for exchanges in due:
                await self._read_session(exchanges)
            await self._read_told(told)
            for one in feedback:
                await self._read_feedback(one)
            return bool(due or told or feedback)

    async def read_now(self, agent: str, session: str | None) -> tuple[int, int]:
        """Read what has ended of a session, or of all of the agent's; how many memories of how many sessions came.

        Raises ``UpstreamError`` as ``step`` does.
        """
        async with self._turn:
            ended = await asyncio.to_thread(self._unread.ended, agent, session)
            told = await asyncio.to_thread(waiting, self._store, agent, session)
            added = 0
            for exchanges in ended:
                added += await self._read_session(exchanges)
            added += await self._read_told(told)
            for one in await asyncio.to_thread(self._unread.feedback):
                if one.agent == agent and session in (None, one.session):
                    added += await self._read_feedback(one)
            return added, len({exchanges[0].session for exchanges in ended} | {one.session for one in told})

    async def _read_session(self, exchanges: Sequence[RecordedExchange]) -> int:
        added = 0
        for exchange in exchanges:
            is_last = exchange is exchanges[-1]
            material, asked = await asyncio.to_thread(self._material, exchange, with_summary=is_last)
            summary = asked if len(asked) >= _MIN_ASKED else ()
            extraction = _nothing(exchange) if material is None else await self._extraction(material, summary)
            added += await self._keep(replace(extraction, used=_used(exchange)))
        return added

    async def _read_told(self, exchanges: Sequence[ToldExchange]) -> int:
        added = 0
        for told in exchanges:
            material = material_told(told)
            if material is None:
                extraction = Extraction(exchange=told.id, agent=told.agent, session=told.session, turns=(told.id,))
            else:
                extraction = await self._extraction(material, ())
            added += await self._keep(extraction)
        return added

    async def _read_feedback(self, feedback: Feedback) -> int:
        def material_there() -> Material | None:
            with TurnReader.open(self._turns_db) as reader:
                return material_of_feedback(reader, feedback)

        material = await asyncio.to_thread(material_there)
        key, agent, session = feedback_key(feedback), feedback.agent, feedback.session
        if material is None:
            return await self._keep(Extraction(exchange=key, agent=agent, session=session, turns=()))
        return await self._keep(await self._extraction(material, ()))

    async def _extraction(self, material: Material, summary: Sequence[str]) -> Extraction:
        found = await self._found(material)
        return extraction_of(material, found, summary=summary, now=self._clock(), new_id=self._new_id)

    async def _keep(self, extraction: Extraction) -> int:
        kept = await asyncio.to_thread(self._store.record, extraction, now=self._clock())
        if extraction.units:
            _log.info("%s: %d memories from %s", extraction.agent, len(extraction.units), extraction.exchange)
        return len({unit.id for unit in extraction.units}.intersection(kept))

    def _material(self, exchange: RecordedExchange, *, with_summary: bool) -> tuple[Material | None, tuple[str, ...]]:
        with TurnReader.open(self._turns_db) as reader:
            material = material_of(reader, exchange)
            if material is None or not with_summary or self._store.has_gap(exchange.agent, exchange.session):
                return material, ()  # a summary reaches back, also to what was forgotten
            return material, asked_in(reader, exchange)

    async def _found(self, material: Material) -> Found:
        if material.said_at < self._clock() - self._max_age_s:
            return await self._fallback.extract(material)
        try:
            return await self._extractor.extract(material)
        except UpstreamError as error:
            if error.status not in _REFUSES_THIS_REQUEST:
                raise
            _log.warning("%s refuses exchange %s: %s", self._extractor.name, material.exchange, error)
        found = await self._fallback.extract(material)
        return Found(findings=found.findings, dropped=Counter({**found.dropped, "refused_by_model": 1}))


def _used(exchange: RecordedExchange) -> tuple[str, ...]:
    return tuple(name.removeprefix(MEMORY_ITEM) for name in exchange.recalled if name.startswith(MEMORY_ITEM))


def _nothing(exchange: RecordedExchange) -> Extraction:
    turns = tuple(turn.id for turn in exchange.turns)
    return Extraction(exchange=exchange.id, agent=exchange.agent, session=exchange.session, turns=turns)
