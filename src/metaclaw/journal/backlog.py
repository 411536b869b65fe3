"""What was recorded and is not in the database yet.

Owns the queue between the thread that records and the one that writes, the spool under it, and what happens when the
spool cannot take a record; refuses to know what a record says. Invariant: appending never raises and never waits for
the database; records are written in the order of their appending, and each once, whatever dies in between: how far a
segment was written is part of the transaction that wrote it.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from metaclaw.errors import JournalError
from metaclaw.journal.database import is_of_the_record
from metaclaw.journal.spool import Place, Spool, SpoolRecord

_log = logging.getLogger(__name__)

MAX_KEPT_BYTES = 32 * 1024 * 1024  # of spooled records; what is beyond is read from the spool again
MAX_HELD_BYTES = 64 * 1024 * 1024  # of records that the spool could not take
_MAX_RECORDS = 512  # in one transaction
_FEW_RECORDS = 128  # of 64 turns: a third of a second of a gateway with recall that has all it can do
_STEP_S = 0.02  # longest work on records while nobody waits
_URGENT_STEP_S = 0.001  # while somebody does: a transaction costs as much as some records
_DELETE_ROWS = "DELETE FROM spool WHERE segment NOT IN (SELECT value FROM json_each(?))"

Write = Callable[[sqlite3.Connection, SpoolRecord], Any]
OnWritten = Callable[[Sequence[Any]], None]


@dataclass(slots=True)
class _Entry:
    """``record`` is ``None`` when it is to be read from its place; without a place there is no copy of it."""

    record: SpoolRecord | None
    place: Place | None
    num_bytes: int
    is_written: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogState:
    """What waits, and what was lost for want of any place to keep it."""

    num_records: int
    num_bytes: int
    num_held: int  # of these, what is in memory alone and goes with the process, unless the spool has room at its end
    num_spool_failures: int  # appends that found no room in the spool
    num_stripped: int  # records kept without their bytes: the turn is known, what was said is not
    num_lost: int


class Backlog:
    """``append`` is called by one thread, ``recover``, ``write``, ``committed`` and ``rolled_back`` by another one."""

    def __init__(
        self,
        spool: Spool,
        write: Write,
        *,
        max_kept_bytes: int = MAX_KEPT_BYTES,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        self.spool = spool
        self.num_refused = 0  # records that cannot be written as they are, and never could
        self.num_damaged = 0  # stretches of the spool without a whole record, and segments that cannot be read
        self.on_written: OnWritten | None = None
        self._write = write
        self._max_kept_bytes = max_kept_bytes
        self._entries: deque[_Entry] = deque()
        self._batch: list[_Entry] = []
        self._results: list[Any] = []
        self._flushes: deque[tuple[int, Future[None]]] = deque()
        self._discarded_before = 0
        self._unread: set[int] = set()  # segments that cannot be read now, and at another start perhaps
        self._has_stale_rows = False
        # Each number has one writing thread.
        self._num_added = self._bytes_added = 0
        self._num_done = self._bytes_done = 0
        self._held = _Held(max_held_bytes)
        self._num_spool_failures = 0
        self._is_spool_failing = False

    def append(self, record: SpoolRecord) -> None:
        """Take ``record``."""
        num_bytes = record.num_bytes
        try:
            place = self.spool.append(record)
        except OSError as error:
            if not self._is_spool_failing:
                _log.error("the spool cannot be written, so records wait in memory: %s", error)
            self._num_spool_failures += 1
            self._is_spool_failing = True
            entry = _Entry(record, None, num_bytes)
            self._held.add(entry)
        else:
            self._is_spool_failing = False
            is_kept = self._bytes_added - self._bytes_done < self._max_kept_bytes
            entry = _Entry(record if is_kept else None, place, num_bytes)
        self._num_added += 1
        self._bytes_added += num_bytes
        self._entries.append(entry)

    def flushed(self) -> Future[None]:
        """Done when all that was appended by now is in the database."""
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        if self._num_done >= self._num_added:
            future.set_result(None)
        else:
            self._flushes.append((self._num_added, future))
        return future

    @property
    def state(self) -> BacklogState:
        return BacklogState(
            num_records=max(0, self._num_added - self._num_done),
            num_bytes=max(0, self._bytes_added - self._bytes_done),
            num_held=self._held.num_waiting,
            num_spool_failures=self._num_spool_failures,
            num_stripped=self._held.num_stripped,
            num_lost=self._held.num_lost,
        )

    # The writing thread

    @property
    def has_more(self) -> bool:
        return bool(self._entries)

    @property
    def may_wait(self) -> bool:
        return len(self._entries) < _FEW_RECORDS and not self._flushes

    def recover(self, connection: sqlite3.Connection, last_segment: int, then: SpoolRecord) -> None:
        """Put what an earlier process left in the spool before all else, and ``then`` after it."""
        written = dict(connection.execute("SELECT segment, written FROM spool").fetchall())
        left: list[_Entry] = []
        for segment in self.spool.segments():
            if segment <= last_segment:
                try:
                    left.extend(self._left_in(segment, written.get(segment, 0)))
                except OSError as error:
                    self.num_damaged += 1
                    self._unread.add(segment)
                    _log.error("what is in the spool's %s cannot be read and stays there: %s", segment, error)
        if left:
            _log.info("%d records of an earlier run are written now", len(left))
        left.append(_Entry(then, None, 0))
        self._num_done -= len(left)
        self._bytes_done -= sum(entry.num_bytes for entry in left)
        self._entries.extendleft(reversed(left))

    def write(self, connection: sqlite3.Connection, is_urgent: Callable[[], bool]) -> None:
        """Write some records, within a transaction. Raises ``sqlite3.Error`` when it is not the record's fault."""
        began_at = time.monotonic()
        ends: dict[int, int] = {}  # of each segment, so that one which could not be deleted is not written again
        while self._entries and len(self._batch) < _MAX_RECORDS:
            entry = self._entries.popleft()
            self._batch.append(entry)
            self._attempt(connection, entry)
            if entry.place is not None:
                ends[entry.place.segment] = entry.place.end
            if time.monotonic() - began_at > (_URGENT_STEP_S if is_urgent() else _STEP_S):
                break
        if self._has_stale_rows:
            connection.execute(f"{_DELETE_ROWS} AND segment < ?", (json.dumps([*self._unread]), self._discarded_before))
            self._has_stale_rows = False
        for segment, end in ends.items():
            connection.execute("INSERT OR REPLACE INTO spool VALUES (?, ?)", (segment, end))

    def committed(self) -> None:
        """The transaction of ``write`` is durable."""
        batch, results = self._batch, self._results
        self._batch, self._results = [], []
        for entry in batch:
            entry.is_written, entry.record = True, None
        self._num_done += len(batch)
        self._bytes_done += sum(entry.num_bytes for entry in batch)
        places = [entry.place for entry in batch if entry.place is not None]
        if places:
            self._discard_before(places[-1].segment)
        if results and self.on_written is not None:
            self.on_written(results)
        while self._flushes and self._flushes[0][0] <= self._num_done:
            self._flushes.popleft()[1].set_result(None)

    def rolled_back(self) -> None:
        """The transaction of ``write`` came to nothing: the same records come again."""
        batch, self._batch, self._results = self._batch, [], []
        self._entries.extendleft(reversed(batch))

    def close(self, connection: sqlite3.Connection | None) -> None:
        """Delete the spool if all of it is in the database. ``connection`` is outside a transaction."""
        num_gone = self._spool_held()
        self.spool.close()
        for _, future in self._flushes:
            future.set_exception(JournalError("the journal is closed"))
        self._flushes.clear()
        if self._entries or connection is None:
            num_kept = len(self._entries) - num_gone
            _log.error("%d records stay in %s until the next start", num_kept, self.spool.folder)
            if num_gone:
                _log.error("%d records are lost: neither the database nor the spool had room for them", num_gone)
            return
        for segment in self.spool.segments():
            if segment not in self._unread:
                self.spool.discard(segment)
        connection.execute(_DELETE_ROWS, (json.dumps([*self._unread]),))

    def _spool_held(self) -> int:
        """Spool what is in memory alone, now that nothing else can keep it; how much of it cannot be."""
        entries = [entry for entry in self._entries if entry.num_bytes]  # ``then`` is made anew at the next start
        first = next((number for number, entry in enumerate(entries) if entry.place is None), len(entries))
        moved = entries[first:]
        former = [entry.place for entry in moved if entry.place is not None]
        # What came after the first of them goes behind it again: an end must not be read before its beginning.
        with suppress(OSError, ValueError):  # then some are there twice, of which the later ones are refused
            if former:
                self.spool.begin_segment()
            for entry in moved:
                record = entry.record or (entry.place and self.spool.read(entry.place))
                entry.place = self.spool.append(record) if record else entry.place
            if former:
                self.spool.take_out(former[0], former[-1])
        return sum(entry.place is None for entry in moved)

    def _left_in(self, segment: int, written: int) -> Iterator[_Entry]:
        size = self.spool.path(segment).stat().st_size
        start = written if written <= size else 0  # a position beyond the end was of another file
        for place, record in self.spool.scan(segment, start):
            if record is None:
                self.num_damaged += 1
                _log.error(
                    "the spool's %s: from byte %d to %d there is no whole record", segment, place.start, place.end
                )
                continue
            is_kept = self._bytes_added - self._bytes_done < self._max_kept_bytes
            yield _Entry(record if is_kept else None, place, record.num_bytes)

    def _attempt(self, connection: sqlite3.Connection, entry: _Entry) -> None:
        """Write one record; without its bytes when it is refused with them."""
        for is_whole in (True, False):
            connection.execute("SAVEPOINT record")
            try:
                result = self._write_one(connection, entry, is_whole)
            except Exception as error:
                if isinstance(error, sqlite3.Error) and not is_of_the_record(error):
                    raise
                self.num_refused += 1
                _log.exception("a record could not be written%s", "" if is_whole else ", not even without its bytes")
                connection.execute("ROLLBACK TO record")
                connection.execute("RELEASE record")
                continue
            connection.execute("RELEASE record")
            if result is not None:
                self._results.append(result)
            return

    def _write_one(self, connection: sqlite3.Connection, entry: _Entry, is_whole: bool) -> Any:
        record = entry.record
        if record is None:
            if entry.place is None:
                return None  # lost, and counted as that
            record = self.spool.read(entry.place)
        return self._write(connection, record if is_whole else record.without_parts())

    def _discard_before(self, segment: int) -> None:
        if segment <= self._discarded_before:
            return
        try:
            for old in self.spool.segments():
                if old < segment and old not in self._unread:
                    self.spool.discard(old)
        except OSError as error:
            _log.warning("the spool cannot be tidied: %s", error)
            return
        # Their rows go in the next transaction: a file without its row would be written a second time.
        self._discarded_before, self._has_stale_rows = segment, True


class _Held:
    """Records that are in memory alone. Used by the appending thread only."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._whole: deque[tuple[_Entry, int]] = deque()
        self._stripped: deque[tuple[_Entry, int]] = deque()
        self._num_bytes = 0
        self.num_stripped = self.num_lost = 0

    @property
    def num_waiting(self) -> int:
        return sum(not entry.is_written for entries in (self._whole, self._stripped) for entry, _ in entries)

    def add(self, entry: _Entry) -> None:
        self._whole.append((entry, entry.num_bytes))
        self._num_bytes += entry.num_bytes
        for entries in (self._stripped, self._whole):
            while entries and entries[0][0].is_written:
                self._num_bytes -= entries.popleft()[1]
        while self._num_bytes > self._max_bytes and (self._whole or self._stripped):
            self._shed()

    def _shed(self) -> None:
        entry, num_bytes = (self._whole or self._stripped).popleft()
        self._num_bytes -= num_bytes
        record = entry.record
        if record is None:  # it was written a moment ago
            return
        if not record.parts:
            entry.record = None
            self.num_lost += 1
            return
        entry.record = bare = record.without_parts()
        self._num_bytes += bare.num_bytes
        self.num_stripped += 1
        self._stripped.append((entry, bare.num_bytes))
