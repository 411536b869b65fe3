"""The single writer of ``turns.db``.

Owns its thread, its files and their life, the blocks that it knows and session pins (how turns and blocks are written
is in ``turn_rows`` and ``recall_blocks``); refuses to know HTTP and why a turn happened. Invariant: what ``append`` or
an awaited method returned for survives the death of the process, and of a recall block nothing but a forgotten memory
is ever taken out.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.chat.usage import TokenCounts
from metaclaw.errors import JournalError
from metaclaw.journal.backlog import Backlog, BacklogState
from metaclaw.journal.database import may_pass, open_writer
from metaclaw.journal.erasing import empty_log, erase_memories
from metaclaw.journal.feedback import NewFeedback, insert_feedback
from metaclaw.journal.group_commit import GroupCommitter
from metaclaw.journal.log_keeper import LogKeeper
from metaclaw.journal.recall_blocks import insert_blocks, memories_in_blocks, select_blocks
from metaclaw.journal.replaced_files import Place
from metaclaw.journal.spool import Spool, SpoolRecord
from metaclaw.journal.spooled_turns import CUT, Pricer, TurnScribe, TurnSettled
from metaclaw.journal.turn_records import (
    BlockKey,
    Cost,
    EndState,
    Feedback,
    NewTurn,
    RawAnswer,
    RecallBlock,
    TurnEnd,
)
from metaclaw.journal.turn_rows import end_turn, insert_turn
from metaclaw.locks import LockedError, exclusive_lock

_MAX_CACHED_BLOCKS = 4096
_BUSY_TIMEOUT_MS = 1000  # what is recorded is tried again anyway, and who waits does not wait long
_RECOVERY_S = 5.0
_ERASING_PATIENCE_S = 60.0  # no turn waits for it

_log = logging.getLogger(__name__)

_AgentBlock = tuple[str, BlockKey]


class TurnJournal:
    """Use as ``async with TurnJournal(path) as journal``. Every method raises ``JournalError`` when it cannot write."""

    def __init__(self, path: Path, *, pricer: Pricer | None = None) -> None:
        self._path = path
        self._scribe = TurnScribe(pricer or _no_price)
        self._backlog = Backlog(Spool(path.with_name("spool")), self._scribe.write)
        self._log_keeper = LogKeeper(path)
        self._committer = GroupCommitter(
            self._reconnect,
            name="turn-journal",
            records=self._backlog,
            on_commit=self._log_keeper.committed,
            is_left=self._is_left,
        )
        self._place: Place | None = None  # of what the connection writes
        self._last_segment = 0
        self._is_recovered = False
        # We are the only writer and blocks change by our own hand alone, so what was read or written once stays true.
        self._blocks: OrderedDict[_AgentBlock, RecallBlock] = OrderedDict()

    async def __aenter__(self) -> TurnJournal:
        await asyncio.to_thread(self.open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def open(self) -> None:
        """Open the file, refuse to share it with another writer, and write what a dead one left in the spool.

        A file that is locked or a disk that is full does not keep anybody waiting: it is opened later, and what is
        recorded until then is in the spool. Raises ``JournalError`` for everything else.
        """
        self._lock = lock_journal(self._path)
        try:
            connection = self._first_connection()
            self._backlog.spool.begin_after(0 if connection is None else _last_segment(connection))
        except (JournalError, OSError) as error:
            self._lock.close()
            if isinstance(error, JournalError):
                raise
            raise JournalError(f"the spool {self._backlog.spool.folder} cannot be used: {error}") from error
        self._last_segment = self._backlog.spool.segment
        if connection is not None:
            self._recover(connection)
        self._log_keeper.start()
        self._committer.start(connection)
        if connection is not None:
            self._wait_for_what_was_left()

    def close(self) -> None:
        """Write what was handed in, as far as that is possible now, then close the file."""
        connection = self._committer.stop()
        self._log_keeper.stop()
        self._backlog.close(connection)
        if connection is not None:
            with suppress(sqlite3.Error):
                self._is_left(connection)
            connection.close()
        self._lock.close()

    def append(self, record: SpoolRecord) -> None:
        """Record something of a turn: in the spool when this returns, in the database soon. Never waits for it.

        One thread may call this (the event loop's).
        """
        self._backlog.append(record)
        self._committer.notice()

    async def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until what was appended so far is in the database. Raises ``JournalError`` when that takes longer."""
        try:
            async with asyncio.timeout(timeout_s):
                written = asyncio.wrap_future(self._backlog.flushed())
                self._committer.hurry()
                await written
        except TimeoutError:
            raise JournalError(f"the journal is behind: {self._committer.trouble or 'it is busy'}") from None

    @property
    def state(self) -> JournalState:
        """How far the database is behind, and why."""
        backlog, committer = self._backlog.state, self._committer
        num_failures = committer.num_failures + backlog.num_spool_failures + backlog.num_stripped + backlog.num_lost
        num_failures += self._backlog.num_refused + self._backlog.num_damaged
        return JournalState(
            backlog=backlog,
            num_failures=num_failures + self._scribe.num_refused_samples,
            trouble=committer.trouble,
        )

    @property
    def is_failing(self) -> bool:
        """Whether the database cannot be written now."""
        return self._committer.trouble is not None

    def unwritten(
        self, turn_id: str, state: EndState, *, upstream: str, model: str | None, answer: ChatAnswer | RawAnswer | None
    ) -> TurnSettled:
        """What a turn took, before it is written. Raises ``ValueError``."""
        return self._scribe.unwritten(turn_id, state, upstream=upstream, model=model, answer=answer)

    def on_settled(self, tell: Callable[[Sequence[TurnSettled]], None]) -> None:
        """Have ``tell`` called, on the writing thread, with the turns whose ends were written."""
        self._backlog.on_written = tell

    async def open_turn(self, turn: NewTurn) -> None:
        """Record that ``turn`` begins."""
        await self._committer.run(lambda connection: insert_turn(connection, turn))

    async def close_turn(self, turn_id: str, end: TurnEnd) -> None:
        """Record how a turn ended. Only the first end of a turn counts."""
        await self._committer.run(lambda connection: end_turn(connection, turn_id, end))

    async def add_feedback(self, given: NewFeedback) -> Feedback:
        """Write down what somebody thought. Raises ``NotFoundError`` for what is not in the journal."""
        return await self._committer.run(lambda connection: insert_feedback(connection, given))

    async def prune(self, step: PruneStep, needed: frozenset[str], now: float) -> int:
        """Give up some old turns; how many."""
        pruned = await self._committer.run(lambda connection: step.step(connection, needed, now))
        if pruned:
            self._blocks.clear()  # blocks went with their turns
        return pruned

    def remembered_blocks(self, agent: str, keys: Sequence[BlockKey]) -> list[RecallBlock | None]:
        """As ``known_blocks``, without waiting: ``None`` also where nobody remembers whether there is one."""
        return [self._blocks.get((agent, key)) for key in keys]

    async def known_blocks(self, agent: str, keys: Sequence[BlockKey]) -> list[RecallBlock | None]:
        """The blocks that were recorded for these messages; ``None`` where there is none yet."""
        known = {key: block for key in keys if (block := self._blocks.get((agent, key))) is not None}
        missing = [key for key in keys if key not in known]
        if missing:
            known |= await self._committer.run(lambda connection: select_blocks(connection, agent, missing))
            self._remember(agent, known)
        return [known.get(key) for key in keys]

    def claiming(self) -> AbstractContextManager[None]:
        """Whoever is in it will claim blocks in a moment: what is recorded meanwhile is written after that."""
        return self._committer.coming()

    async def claim_blocks(
        self, agent: str, turn_id: str, proposals: Sequence[tuple[BlockKey, RecallBlock]], *, now: float
    ) -> list[RecallBlock]:
        """Record these blocks unless others were first, in one transaction; return what counts now."""

        def work(connection: sqlite3.Connection) -> dict[BlockKey, RecallBlock]:
            insert_blocks(connection, agent, turn_id, proposals, now)
            return select_blocks(connection, agent, [key for key, _ in proposals])

        blocks = await self._committer.run(work)
        self._remember(agent, blocks)
        return [blocks[key] for key, _ in proposals]

    async def recalled_memories(self) -> list[str]:
        """The ids of all memories whose text is in some block."""
        return await self._committer.run(memories_in_blocks)

    async def erase_memories(self, memories: Collection[str]) -> int:
        """Take the text of forgotten memories out of every block; how many blocks that were."""
        erased = await self._committer.run(
            lambda connection: erase_memories(connection, memories), patience_s=_ERASING_PATIENCE_S
        )
        self._blocks.clear()
        return erased

    async def empty_log(self) -> bool:
        """Cut the log to nothing, so that no old page is left in it; false while somebody reads or writes."""
        return await asyncio.to_thread(empty_log, self._path)

    async def pin_session(self, agent: str, session: str, serving: int, *, now: float, idle_s: float) -> int:
        """The policy version of a session: the one it has, or ``serving`` when it is new or was idle for too long."""
        return await self._committer.run(lambda connection: _pin(connection, agent, session, serving, now, idle_s))

    async def repin_session(self, agent: str, session: str, version: int, *, now: float) -> None:
        """Move a session to another version, for example because its own is no longer served."""
        await self._committer.run(lambda connection: _set_pin(connection, agent, session, version, now))

    def _remember(self, agent: str, blocks: Mapping[BlockKey, RecallBlock]) -> None:
        for key, block in blocks.items():
            self._blocks[agent, key] = block
        while len(self._blocks) > _MAX_CACHED_BLOCKS:
            self._blocks.popitem(last=False)

    def _first_connection(self) -> sqlite3.Connection | None:
        try:
            return self._connect()
        except JournalError as error:
            cause = error.__cause__
            if not (isinstance(cause, sqlite3.Error) and may_pass(cause)):
                raise
            _log.error("%s It is tried again, and turns are kept in the spool until then.", error)
            return None

    def _connect(self) -> sqlite3.Connection:
        connection = open_writer(self._path, "turns", busy_timeout_ms=_BUSY_TIMEOUT_MS)
        self._log_keeper.relieve(connection)
        self._place = Place.of(self._path)
        return connection

    def _is_left(self, connection: sqlite3.Connection) -> bool:
        """Close ``connection`` if what is written can not be found again: somebody put back another file, say."""
        if self._place is None or self._place.is_here() or not self._place.leave(connection):
            return False
        _log.warning("%s is not the file that it was; what is recorded from now on goes into the new one", self._path)
        return True

    def _reconnect(self) -> sqlite3.Connection:
        connection = self._connect()
        if not self._is_recovered:
            self._recover(connection)
        return connection

    def _recover(self, connection: sqlite3.Connection) -> None:
        self._backlog.recover(connection, self._last_segment, then=CUT)
        self._is_recovered = True

    def _wait_for_what_was_left(self) -> None:
        self._committer.hurry()
        try:
            self._backlog.flushed().result(timeout=_RECOVERY_S)
        except TimeoutError:
            _log.warning("an earlier run left much in the spool; it is written while turns are answered")


class PruneStep(Protocol):
    """What is given up next."""

    def step(self, connection: sqlite3.Connection, needed: frozenset[str], now: float) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalState:
    """``num_failures`` counts since the start whatever could not be recorded at once or as it was."""

    backlog: BacklogState
    num_failures: int
    trouble: str | None


def _last_segment(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT coalesce(max(segment), 0) FROM spool").fetchone()[0]


def _no_price(upstream: str, model: str, tokens: TokenCounts) -> Cost | None:
    return None


def lock_journal(path: Path) -> ExitStack:
    """Be the one that writes ``path``, until the stack is closed. Raises ``JournalError``."""
    # Not SQLite's own lock: to take it a page is written, which a full disk has no room for.
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = path.with_name(path.name + ".lock")
    held = ExitStack()
    try:
        held.enter_context(exclusive_lock(file, wait=False))
    except LockedError as error:
        raise JournalError(f"{path} is being written by another MetaClaw gateway; stop it first") from error
    except OSError as error:
        raise JournalError(f"{file} cannot be used: {error.strerror}") from error
    return held


def _pin(connection: sqlite3.Connection, agent: str, session: str, serving: int, now: float, idle_s: float) -> int:
    row = connection.execute(
        "SELECT version FROM pins WHERE agent = ? AND session = ? AND last_used_at >= ?", (agent, session, now - idle_s)
    ).fetchone()
    version = serving if row is None else row[0]
    _set_pin(connection, agent, session, version, now)
    return version


def _set_pin(connection: sqlite3.Connection, agent: str, session: str, version: int, now: float) -> None:
    connection.execute("INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?)", (agent, session, version, now))
