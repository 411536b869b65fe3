"""One thread that writes, many callers that wait.

Owns the writing connection and its transactions; refuses to know tables. Invariant: a job that was handed in is run
exactly once, whatever becomes of the task that waits for it, and its result is told only after the commit.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from metaclaw.errors import JournalError
from metaclaw.journal.database import transaction

T = TypeVar("T")
_MAX_JOBS = 256  # per transaction, so that the first of many waits for no more than some milliseconds


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    work: Callable[[sqlite3.Connection], T]
    future: Future[T]


class GroupCommitter:
    """Runs jobs in shared transactions: all that wait when the last commit ends go into the next one."""

    def __init__(self, connection: sqlite3.Connection, *, name: str) -> None:
        self._connection = connection
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._is_stopped = False

    def start(self) -> None:
        self._thread.start()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in a transaction; return its result once committed. Raises ``JournalError``."""
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Hand in ``work``. It is done even if nobody waits for the future."""
        if self._is_stopped:
            raise JournalError("the journal is closed")
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # a waiter that goes away must not take the record with it
        self._jobs.put(_Job(work, future))
        return future

    def stop(self) -> None:
        """Do what was handed in, then end the thread."""
        self._is_stopped = True
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, is_last = self._batch(job)
            self._commit(batch)
            if is_last:
                return

    def _batch(self, first: _Job[Any]) -> tuple[list[_Job[Any]], bool]:
        batch = [first]
        while len(batch) < _MAX_JOBS:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch, False
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _commit(self, batch: list[_Job[Any]]) -> None:
        try:
            with transaction(self._connection):
                outcomes = [self._attempt(job) for job in batch]
        except sqlite3.Error as error:
            for job in batch:
                job.future.set_exception(_journal_error(error))
            return
        for job, (result, error) in zip(batch, outcomes, strict=True):
            job.future.set_exception(error) if error is not None else job.future.set_result(result)

    def _attempt(self, job: _Job[T]) -> tuple[T | None, BaseException | None]:
        self._connection.execute("SAVEPOINT job")
        try:
            result = job.work(self._connection)
        except Exception as error:  # noqa: BLE001 - the boundary of a job: its failure is its caller's alone
            self._connection.execute("ROLLBACK TO job")
            self._connection.execute("RELEASE job")
            return None, _journal_error(error) if isinstance(error, sqlite3.Error) else error
        self._connection.execute("RELEASE job")
        return result, None


def _journal_error(error: sqlite3.Error) -> JournalError:
    return JournalError(f"the journal could not be written: {error}")
