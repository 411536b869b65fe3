"""Which exchanges are to be read for memories now.

Owns when a session is due; refuses to know what is found. Invariant: what is due follows from the journal and the store
alone: an exchange whose reading was not committed is due again after a crash, one whose was is never. No client has to
say that a session has ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metaclaw.journal.turns import Feedback, RecordedExchange, TurnReader
from metaclaw.memory.extraction.elsewhere import ToldExchange, waiting
from metaclaw.memory.extraction.materials import feedback_key
from metaclaw.memory.store import MemoryStore

_USER = "user"
_PAGE = 500
_MAX_PENDING = 2_000  # exchanges that are looked at in one go; the others are found when these are read


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """A session is read when ``every_n`` of its exchanges wait, or when it has been silent for ``idle_s``."""

    every_n: int
    idle_s: float


class UnreadExchanges:
    """Looks through the journal. One thread at a time may use it."""

    def __init__(self, turns_db: Path, store: MemoryStore, when: When) -> None:
        self._turns_db = turns_db
        self._store = store
        self._when = when
        self._heard_up_to = 0  # the same of feedback
        self._read_up_to = 0  # every exchange up to this turn was read; found again after a restart

    def due(self, now: float) -> list[list[RecordedExchange]]:
        """The exchanges to read, by session, in the order in which they were said."""
        if not self._turns_db.exists():
            return []
        sessions: dict[tuple[str, str], list[RecordedExchange]] = defaultdict(list)
        with TurnReader.open(self._turns_db) as reader:
            for exchange in self._unread(reader):
                sessions[exchange.agent, exchange.session].append(exchange)
        return [due for waiting in sessions.values() if (due := self._due(waiting, now))]

    def ended(self, agent: str, session: str | None) -> list[list[RecordedExchange]]:
        """Every exchange of a session, or of all of the agent's, that has ended and was not read."""
        if not self._turns_db.exists():
            return []
        sessions: dict[str, list[RecordedExchange]] = defaultdict(list)
        with TurnReader.open(self._turns_db) as reader:
            for one in self._unread(reader):
                if one.agent == agent and session in (None, one.session) and not one.is_open:
                    sessions[one.session].append(one)
        return list(sessions.values())

    def feedback(self) -> list[Feedback]:
        """What users wrote about answers and nobody has read, whether or not the exchange was."""
        if not self._turns_db.exists():
            return []
        unread: list[Feedback] = []
        with TurnReader.open(self._turns_db) as reader:
            while page := reader.feedback_after(self._heard_up_to, limit=_PAGE):
                written = [one for one in page if one.text and one.source == _USER]
                read = self._store.was_read([feedback_key(one) for one in written])
                unread += [one for one in written if feedback_key(one) not in read]
                if unread:
                    break  # the cursor stays before what is read only now
                self._heard_up_to = page[-1].id
        return unread

    def told(self, now: float) -> list[ToldExchange]:
        """Those that passed elsewhere and are to be read, by the same rule."""
        sessions: dict[tuple[str, str], list[ToldExchange]] = defaultdict(list)
        for one in waiting(self._store):
            sessions[one.agent, one.session].append(one)
        return [
            one
            for those in sessions.values()
            if len(those) >= self._when.every_n or self._is_silent(those[-1].said_at, now)
            for one in those
        ]

    def _unread(self, reader: TurnReader) -> Iterator[RecordedExchange]:
        after, number, all_read = self._read_up_to, 0, True
        while number < _MAX_PENDING and (page := reader.exchange_ids(after_seq=after, limit=_PAGE)):
            read = self._store.was_read([exchange for exchange, _ in page])
            for exchange_id, seq in page:
                if exchange_id not in read and (exchange := reader.exchange(exchange_id)) is not None:
                    all_read = False
                    number += 1
                    yield exchange
                elif all_read:
                    self._read_up_to = seq
            after = page[-1][1]

    def _due(self, waiting: list[RecordedExchange], now: float) -> list[RecordedExchange]:
        ended = [one for one in waiting if not one.is_open]
        silent = {one.id for one in ended if one.closed_at is not None and self._is_silent(one.closed_at, now)}
        if sum(one.has_later for one in ended) >= self._when.every_n:
            return [one for one in ended if one.has_later or one.id in silent]
        return [one for one in ended if one.id in silent]

    def _is_silent(self, last_at: float, now: float) -> bool:
        # What ended so long from now was recorded before the clock was set back. Were it waited for, some thousands of
        # such exchanges would be all that is looked at, until that time comes.
        return abs(now - last_at) >= self._when.idle_s
