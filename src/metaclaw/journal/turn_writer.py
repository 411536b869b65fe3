"""The single writer of ``turns.db``.

Owns how turns, their messages, recall blocks and session pins are written; refuses to know HTTP and why a turn
happened. Invariant: what an awaited method returned for survives the death of the process, and a recall block
is never rewritten.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from metaclaw.chat.messages import Message, chain_hashes
from metaclaw.errors import JournalError
from metaclaw.journal.database import open_writer, transaction
from metaclaw.journal.group_commit import GroupCommitter
from metaclaw.journal.turn_exchanges import exchange_of
from metaclaw.journal.turn_records import BlockKey, NewTurn, PolicySample, RecallBlock, TurnEnd

_MAX_CACHED_BLOCKS = 4096
_AgentBlock = tuple[str, BlockKey]


class TurnJournal:
    """Use as ``async with TurnJournal(path) as journal``. Every method raises ``JournalError`` when it cannot write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # We are the only writer and blocks never change, so what was read or written once stays true.
        self._blocks: OrderedDict[_AgentBlock, RecallBlock] = OrderedDict()

    async def __aenter__(self) -> TurnJournal:
        await asyncio.to_thread(self.open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def open(self) -> None:
        """Open the file, refuse to share it with another writer, and close what a dead one left open."""
        self._lock = _lock(self._path)
        self._connection = open_writer(self._path, "turns")
        with transaction(self._connection):
            _cut_open_turns(self._connection)
        self._committer = GroupCommitter(self._connection, name="turn-journal")
        self._committer.start()

    def close(self) -> None:
        """Write what was handed in, then close the file."""
        self._committer.stop()
        self._connection.close()
        self._lock.close()

    async def open_turn(self, turn: NewTurn) -> None:
        """Record that ``turn`` begins."""
        chain = chain_hashes(turn.messages)
        await self._committer.run(lambda connection: _insert_turn(connection, turn, chain))

    async def close_turn(self, turn_id: str, end: TurnEnd) -> None:
        """Record how a turn ended. Only the first end of a turn counts."""
        await self._committer.run(lambda connection: _end_turn(connection, turn_id, end))

    async def known_blocks(self, agent: str, keys: Sequence[BlockKey]) -> list[RecallBlock | None]:
        """The blocks that were recorded for these messages; ``None`` where there is none yet."""
        known = {key: block for key in keys if (block := self._blocks.get((agent, key))) is not None}
        missing = [key for key in keys if key not in known]
        if missing:
            known |= await self._committer.run(lambda connection: _select_blocks(connection, agent, missing))
            self._remember(agent, known)
        return [known.get(key) for key in keys]

    async def claim_blocks(
        self, agent: str, turn_id: str, proposals: Sequence[tuple[BlockKey, RecallBlock]], *, now: float
    ) -> list[RecallBlock]:
        """Record these blocks unless others were first, in one transaction; return what counts now."""

        def work(connection: sqlite3.Connection) -> dict[BlockKey, RecallBlock]:
            connection.executemany(
                "INSERT OR IGNORE INTO recall_blocks VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (agent, key.hash, key.occurrence, turn_id, block.text, json.dumps(block.items), now)
                    for key, block in proposals
                ],
            )
            return _select_blocks(connection, agent, [key for key, _ in proposals])

        blocks = await self._committer.run(work)
        self._remember(agent, blocks)
        return [blocks[key] for key, _ in proposals]

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


def _lock(path: Path) -> sqlite3.Connection:
    # SQLite's own file lock: it works on every system and dies with the process.
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = sqlite3.connect(
        path.with_name(path.name + ".lock"), timeout=0, isolation_level=None, check_same_thread=False
    )
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        raise JournalError(f"{path} is being written by another MetaClaw gateway; stop it first") from error
    return lock


def _cut_open_turns(connection: sqlite3.Connection) -> None:
    # When it really ended nobody knows; its opening is the last moment that is certain.
    connection.execute(
        """
        UPDATE turns SET state = 'cut', error = 'the gateway ended before the answer did',
            closed_at = coalesce(first_byte_at, opened_at)
        WHERE state = 'open'
        """
    )


def _insert_turn(connection: sqlite3.Connection, turn: NewTurn, chain: list[bytes]) -> None:
    _insert_history(connection, turn.messages, chain)
    connection.execute(
        """
        INSERT INTO turns (id, agent, session, exchange, kind, dialect, model, upstream, request, head, recalled,
            state, opened_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?)
        """,
        (
            turn.id, turn.agent, turn.session, exchange_of(connection, turn), turn.kind, turn.dialect,
            _text(turn.model), turn.upstream, turn.request, chain[-1] if chain else None, json.dumps(turn.recalled),
            turn.opened_at,
        ),
    )  # fmt: skip


def _insert_history(connection: sqlite3.Connection, messages: Sequence[Message], chain: Sequence[bytes]) -> None:
    known = len(chain)
    while known > 0 and not _has_link(connection, chain[known - 1]):
        known -= 1
    for index in range(known, len(chain)):
        _insert_message(connection, messages[index])
        connection.execute(
            "INSERT INTO links VALUES (?, ?, ?)",
            (chain[index], chain[index - 1] if index else None, messages[index].hash),
        )


def _has_link(connection: sqlite3.Connection, link: bytes) -> bool:
    return connection.execute("SELECT 1 FROM links WHERE hash = ?", (link,)).fetchone() is not None


def _insert_message(connection: sqlite3.Connection, message: Message) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO messages VALUES (?, ?, ?)", (message.hash, _text(message.role), message.body)
    )


def _end_turn(connection: sqlite3.Connection, turn_id: str, end: TurnEnd) -> None:
    if end.answer is not None:
        _insert_message(connection, end.answer)
    ended = connection.execute(
        """
        UPDATE turns SET state = ?, answer = ?, finish_reason = ?, status = ?, error = ?, usage = ?,
            first_byte_at = ?, closed_at = ?, upstream = coalesce(?, upstream)
        WHERE id = ? AND state = 'open'
        """,
        (
            end.state, end.answer and end.answer.hash, _text(end.finish_reason), end.status, _text(end.error),
            None if end.usage is None else json.dumps(end.usage), end.first_byte_at, end.closed_at, end.upstream,
            turn_id,
        ),
    ).rowcount  # fmt: skip
    if not ended:
        _require_turn(connection, turn_id)
    elif end.sample is not None:
        _insert_sample(connection, turn_id, end.sample)


def _require_turn(connection: sqlite3.Connection, turn_id: str) -> None:
    if connection.execute("SELECT 1 FROM turns WHERE id = ?", (turn_id,)).fetchone() is None:
        raise JournalError(f"the opening of {turn_id} was not recorded, so its end cannot be")


def _insert_sample(connection: sqlite3.Connection, turn_id: str, sample: PolicySample) -> None:
    values = {name: _text(value) if isinstance(value, str) else value for name, value in asdict(sample).items()}
    row = {**values, "turn": turn_id, "spans": json.dumps(sample.spans)}
    connection.execute(
        f"INSERT INTO samples ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})",
        row,
    )


def _text(value: str | None) -> str | None:
    # Lone surrogates, which JSON can carry and UTF-8 cannot, are kept as their escapes.
    return None if value is None else value.encode("utf-8", "backslashreplace").decode()


def _select_blocks(connection: sqlite3.Connection, agent: str, keys: Sequence[BlockKey]) -> dict[BlockKey, RecallBlock]:
    found: dict[BlockKey, RecallBlock] = {}
    for key in keys:
        row = connection.execute(
            "SELECT text, items FROM recall_blocks WHERE agent = ? AND key = ? AND occurrence = ?",
            (agent, key.hash, key.occurrence),
        ).fetchone()
        if row is not None:
            found[key] = RecallBlock(text=row[0], items=tuple(json.loads(row[1])))
    return found


def _pin(connection: sqlite3.Connection, agent: str, session: str, serving: int, now: float, idle_s: float) -> int:
    row = connection.execute(
        "SELECT version FROM pins WHERE agent = ? AND session = ? AND last_used_at >= ?", (agent, session, now - idle_s)
    ).fetchone()
    version = serving if row is None else row[0]
    _set_pin(connection, agent, session, version, now)
    return version


def _set_pin(connection: sqlite3.Connection, agent: str, session: str, version: int, now: float) -> None:
    connection.execute("INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?)", (agent, session, version, now))
