"""How long turns are kept.

Owns applying an age and a size to the journal, beside a running gateway or without one, and taking forgotten memories
out of it without one; refuses to know settings. Invariant: nothing is given up unless somebody set a limit or forgot
it, and a turn never waits for more than one short step.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from metaclaw.errors import JournalError
from metaclaw.journal.database import open_writer, transaction
from metaclaw.journal.erasing import empty_log, erase_memories, is_erasure_due, rewrite_blocks
from metaclaw.journal.pruning import needed_exchanges, prune_session, prune_step
from metaclaw.journal.spool import Spool
from metaclaw.journal.turn_writer import TurnJournal, lock_journal

_DAY_S = 86_400.0
_UNJUDGED_S = 7 * _DAY_S  # an older exchange is not judged any more, see learner.inbox.RetryPolicy
_EVERY_S = 600.0
_REST_S = 0.05  # between two steps

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept: turns of so many days (of some agents of others), so many megabytes of them; 0 is no limit."""

    max_age_days: float = 0.0
    max_size_mb: float = 0.0
    max_age_days_of: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def is_off(self) -> bool:
        return not (self.max_age_days or self.max_size_mb or any(self.max_age_days_of.values()))

    def step(self, connection: sqlite3.Connection, needed: frozenset[str], now: float) -> int:
        """Give up some turns within a transaction; 0 when there is nothing to give up."""
        return prune_step(
            connection,
            opened_before=_before(self.max_age_days, now),
            opened_before_of={agent: _before(days, now) for agent, days in self.max_age_days_of.items()},
            unjudged_after=now - _UNJUDGED_S,
            max_bytes=int(self.max_size_mb * 1e6) if self.max_size_mb else None,
            needed=needed,
        )


def _before(days: float, now: float) -> float:
    return now - days * _DAY_S if days else 0.0


async def keep_pruned(
    journal: TurnJournal, learning_db: Path, retention: Retention, clock: Callable[[], float] = time.time
) -> None:
    """Apply ``retention`` again and again, until cancelled. What fails is logged and tried again later."""
    while not retention.is_off:
        try:
            needed = await asyncio.to_thread(needed_exchanges, learning_db)
            num_pruned = 0
            while step := await journal.prune(retention, needed, clock()):
                num_pruned += step
                await asyncio.sleep(_REST_S)
            if num_pruned:
                _log.info("%d old turns were given up", num_pruned)
        except JournalError as error:
            _log.warning("old turns could not be given up: %s", error)
        await asyncio.sleep(_EVERY_S)


def prune_stopped(turns_db: Path, learning_db: Path, retention: Retention, now: float | None = None) -> int:
    """Apply ``retention`` while no gateway runs, and shrink the file. Raises ``JournalError``."""
    with _stopped(turns_db) as connection:
        needed = needed_exchanges(learning_db)
        num_pruned = 0
        moment = time.time() if now is None else now
        while True:
            with transaction(connection):
                step = retention.step(connection, needed, moment)
            num_pruned += step
            if not step:
                break
        if num_pruned:
            _shrink(connection, num_pruned)
    return num_pruned


def prune_session_stopped(turns_db: Path, learning_db: Path, agent: str, session: str) -> tuple[int, int]:
    """Give up a session while no gateway runs, and shrink the file; how many turns went, and how many stay because an
    update may still train on them. Raises ``JournalError``."""
    with _stopped(turns_db) as connection:
        if spool := Spool(turns_db.with_name("spool")).segments():
            raise JournalError(
                f"{len(spool)} file(s) of the spool are not in {turns_db} yet, since MetaClaw was killed: start it,"
                " stop it, and try again"
            )
        needed = needed_exchanges(learning_db)
        with transaction(connection):
            num_pruned = prune_session(connection, agent, session, needed=needed)
            (num_left,) = connection.execute(
                "SELECT count(*) FROM turns WHERE agent = ? AND session = ?", (agent, session)
            ).fetchone()
        if num_pruned:
            _shrink(connection, num_pruned)
    return num_pruned, num_left


@contextmanager
def _stopped(turns_db: Path) -> Generator[sqlite3.Connection]:
    """A connection to the journal while no gateway runs."""
    if not turns_db.exists():
        raise JournalError(f"there is no journal at {turns_db}")
    lock = lock_journal(turns_db)
    try:
        with closing(open_writer(turns_db, "turns")) as connection:
            yield connection
    except sqlite3.Error as error:
        raise JournalError(f"{turns_db} could not be pruned: {error}") from error
    finally:
        lock.close()


def _shrink(connection: sqlite3.Connection, num_pruned: int) -> None:
    try:
        connection.execute("VACUUM")
    except sqlite3.Error as error:  # it takes as much room again as what is left
        said = f"{num_pruned} turns were given up, but the file could not be shrunk: {error}"
        raise JournalError(f"{said}. Their room in it is used again; with more on the disk, prune once more") from error


def erase_stopped(turns_db: Path, memories: Collection[str]) -> bool:
    """Take forgotten ``memories`` out of recorded blocks while no gateway runs; false when one does, which will do it.

    Raises ``JournalError`` when it could not be done.
    """
    if not turns_db.exists() or not memories:
        return True
    try:
        lock = lock_journal(turns_db)
    except JournalError:
        return False
    try:
        with closing(open_writer(turns_db, "turns")) as connection, transaction(connection):
            erase_memories(connection, memories, max_rewritten=None)
            if is_erasure_due(connection):  # of an earlier time, beside a running gateway
                rewrite_blocks(connection)
        empty_log(turns_db)
    except sqlite3.Error as error:
        raise JournalError(f"what was forgotten could not be taken out of {turns_db}: {error}") from error
    finally:
        lock.close()
    return True
