"""One thread that writes: jobs that somebody waits for, and a stream of records that nobody waits for.

Owns the writing connection, its transactions, and trying again when the database cannot be written; refuses to know
tables. Invariant: a job that was handed in is run exactly once, whatever becomes of the task that waits for it, and its
result is told only after the commit; a job whose time is over is not begun. Jobs go before records, so that a turn
waits for its own work alone; and a few records wait while a job is coming, because whoever prepares it shares the
interpreter with this thread.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from metaclaw.errors import JournalError
from metaclaw.journal.database import is_of_the_record, may_pass, transaction

T = TypeVar("T")
Connect = Callable[[], sqlite3.Connection]

PATIENCE_S = 2.0  # how long a turn waits for the journal at most, once; then it goes on without
_MAX_JOBS = 256  # per transaction, so that the first of many waits for no more than some milliseconds
_LINGER_S = 0.1  # records wait so long for others to share a transaction with, and for the thread not to be in the way
_GIVING_WAY_S = 0.02  # until it is looked again whether a job is still coming
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.1, 5.0

_log = logging.getLogger(__name__)


class RecordStream(Protocol):
    """Records to write when no job waits. ``write`` is called within a transaction, then one of the other two."""

    @property
    def has_more(self) -> bool: ...

    @property
    def may_wait(self) -> bool:
        """They are few, and nobody waits for them."""
        ...

    def write(self, connection: sqlite3.Connection, is_urgent: Callable[[], bool]) -> None: ...

    def committed(self) -> None: ...

    def rolled_back(self) -> None: ...


class _NoRecords:
    has_more = False
    may_wait = True

    def write(self, connection: sqlite3.Connection, is_urgent: Callable[[], bool]) -> None: ...

    def committed(self) -> None: ...

    def rolled_back(self) -> None: ...


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Callable[[sqlite3.Connection], T]
    future: Future[T]
    is_abandoned: bool = False


class GroupCommitter:
    """Runs jobs in shared transactions: all that wait when the last commit ends go into the next one, and nothing else:
    records come between, many at a time, so that whoever waits seldom waits for them, and not long.

    ``connect`` is called in the thread when there is no connection yet, and again after one turned out to be broken, or
    when ``is_left`` has closed it before a transaction, because it leads elsewhere; ``on_commit`` after each commit,
    when those who waited for it have been told.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        name: str,
        records: RecordStream | None = None,
        on_commit: Callable[[sqlite3.Connection], None] = lambda _: None,
        is_left: Callable[[sqlite3.Connection], bool] = lambda _: False,
    ) -> None:
        self.num_failures = 0  # transactions that came to nothing
        self.trouble: str | None = None  # why the database cannot be written now
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._records: RecordStream = records or _NoRecords()
        self._on_commit = on_commit
        self._is_left = is_left
        self._jobs: deque[_Job[Any]] = deque()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._wake = threading.Event()  # there is something to do
        self._hurry = threading.Event()  # somebody waits for it
        self._is_stopping = False
        self._num_coming = 0  # jobs
        self._records_due_at = 0.0  # never again so soon, unless there is more than was written at once
        self._busy_since: float | None = None
        self._retry_at = 0.0
        self._retry_s = _FIRST_RETRY_S

    def start(self, connection: sqlite3.Connection | None = None) -> None:
        self._connection = connection
        self._thread.start()

    async def run(self, work: Callable[[sqlite3.Connection], T], *, patience_s: float = PATIENCE_S) -> T:
        """Run ``work`` in a transaction; return its result once committed. Raises ``JournalError``.

        Also when that does not happen within ``patience_s``: then the work is not begun any more.
        """
        since = self._busy_since
        if since is not None and time.monotonic() - since > patience_s:
            raise JournalError(f"the journal has been busy for {time.monotonic() - since:.0f} s")
        job = self._hand_in(work)
        try:
            async with asyncio.timeout(patience_s):
                return await asyncio.wrap_future(job.future)
        except TimeoutError:
            job.is_abandoned = True
            raise JournalError(f"the journal was busy for more than {patience_s:g} s") from None

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Hand in ``work``. It is done even if nobody waits for the future."""
        return self._hand_in(work).future

    @contextmanager
    def coming(self) -> Generator[None]:
        """Whoever is in it will hand in a job. One thread may use this."""
        self._num_coming += 1
        try:
            yield
        finally:
            self._num_coming -= 1

    def notice(self) -> None:
        """There are records. Costs next to nothing when the thread knows."""
        if not self._wake.is_set():
            self._wake.set()

    def hurry(self) -> None:
        """Somebody waits for the records."""
        self._hurry.set()
        self._wake.set()

    def stop(self) -> sqlite3.Connection | None:
        """Do what was handed in, as far as the database can be written, then end the thread. Return the connection."""
        self._is_stopping = True
        self._wake.set()
        self._hurry.set()
        self._thread.join()
        return self._connection

    def _hand_in(self, work: Callable[[sqlite3.Connection], T]) -> _Job[T]:
        if self._is_stopping:
            raise JournalError("the journal is closed")
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # a waiter that goes away must not take the record with it
        job = _Job(work, future)
        self._jobs.append(job)
        self._hurry.set()
        self._wake.set()
        return job

    def _run(self) -> None:
        while True:
            self._pause()
            jobs = [self._jobs.popleft() for _ in range(min(len(self._jobs), _MAX_JOBS))]
            if self._is_resting():
                _fail(jobs, self.trouble or "")  # the records themselves are the next attempt
            elif jobs or (self._records.has_more and not self._gives_way()):
                self._busy_since = time.monotonic()
                self._commit(jobs)
                self._busy_since = None
            if jobs and self.trouble is None and self._are_records_due():
                self._busy_since = time.monotonic()
                self._commit([])
                self._busy_since = None
            if self._is_stopping and (self.trouble is not None or not (self._jobs or self._records.has_more)):
                break
        _fail(list(self._jobs), "the journal is closed")

    def _is_resting(self) -> bool:
        is_failing = self.trouble is not None and self._records.has_more
        return is_failing and not self._is_stopping and time.monotonic() < self._retry_at

    def _are_records_due(self) -> bool:
        return self._records.has_more and time.monotonic() >= self._records_due_at and not self._gives_way()

    def _pause_after_records_s(self) -> float:
        if not self._records.has_more:
            return _LINGER_S
        return _GIVING_WAY_S if self._gives_way() else 0.0

    def _gives_way(self) -> bool:
        is_well = self.trouble is None and not self._is_stopping
        return is_well and self._num_coming > 0 and self._records.may_wait

    def _is_urgent(self) -> bool:
        return self._hurry.is_set() or self._gives_way()

    def _pause(self) -> None:
        if self._is_stopping or self._jobs:
            pass
        elif self.trouble is not None and self._records.has_more:
            self._hurry.wait(max(0.0, self._retry_at - time.monotonic()))
        elif not self._records.has_more:
            self._wake.wait()
            self._hurry.wait(_LINGER_S)
        else:
            least_s = _GIVING_WAY_S if self._gives_way() else 0.0
            self._hurry.wait(max(least_s, self._records_due_at - time.monotonic()))
        self._wake.clear()
        self._hurry.clear()

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        try:
            if self._connection is not None and self._is_left(self._connection):
                self._connection = None
            if self._connection is None:
                self._connection = self._connect()
            with transaction(self._connection):
                outcomes = [self._attempt(self._connection, job) for job in jobs]
                if not jobs:
                    self._records.write(self._connection, self._is_urgent)
        except (sqlite3.Error, JournalError) as error:
            self._records.rolled_back()
            self._failed(error)
            _fail(jobs, str(error))
            return
        self._retry_s, self.trouble = _FIRST_RETRY_S, None
        self._records.committed()
        if not jobs:
            self._records_due_at = time.monotonic() + self._pause_after_records_s()
        for job, (result, error) in zip(jobs, outcomes, strict=True):
            job.future.set_exception(error) if error is not None else job.future.set_result(result)
        self._on_commit(self._connection)

    def _failed(self, error: sqlite3.Error | JournalError) -> None:
        self.num_failures += 1
        if self.trouble is None:
            _log.error("the journal cannot be written; it is tried again: %s", error)
        self.trouble = str(error)
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(_LONGEST_RETRY_S, 2 * self._retry_s)
        if self._connection is not None and not (isinstance(error, sqlite3.Error) and may_pass(error)):
            # The file may have been damaged, or replaced by a good one: it is opened anew.
            self._connection.close()
            self._connection = None

    def _attempt(self, connection: sqlite3.Connection, job: _Job[T]) -> tuple[T | None, BaseException | None]:
        if job.is_abandoned:
            return None, JournalError("nobody waits for it any more")
        connection.execute("SAVEPOINT job")
        try:
            result = job.work(connection)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not is_of_the_record(error):
                raise
            connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
            return None, _journal_error(str(error)) if isinstance(error, sqlite3.Error) else error
        connection.execute("RELEASE job")
        return result, None


def _fail(jobs: list[_Job[Any]], why: str) -> None:
    for job in jobs:
        job.future.set_exception(_journal_error(why))


def _journal_error(why: str) -> JournalError:
    return JournalError(f"the journal could not be written: {why}")
