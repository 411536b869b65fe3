"""The statements for what was recalled.

Owns how blocks are written by the first, read, and what is left of one without an item; refuses to know transactions
and what is recalled. Invariant: a block is written once; after that only the text of a memory that was forgotten is
ever taken out of it (``erasing``).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence

from metaclaw.journal.turn_records import MEMORY_ITEM, BlockKey, RecallBlock, Weighed

WHERE = "agent = ? AND key = ? AND occurrence = ?"


def select_blocks(connection: sqlite3.Connection, agent: str, keys: Sequence[BlockKey]) -> dict[BlockKey, RecallBlock]:
    """The blocks that are there for ``keys``."""
    found: dict[BlockKey, RecallBlock] = {}
    for key in keys:
        row = connection.execute(
            f"SELECT text, items, spans, turn FROM recall_blocks WHERE {WHERE}", (agent, key.hash, key.occurrence)
        ).fetchone()
        if row is not None:
            found[key] = block_of(row)
    return found


def insert_blocks(
    connection: sqlite3.Connection,
    agent: str,
    turn_id: str,
    proposals: Sequence[tuple[BlockKey, RecallBlock]],
    now: float,
) -> None:
    """Write the blocks whose messages have none yet."""
    for key, block in proposals:
        place = (agent, key.hash, key.occurrence)
        is_first = connection.execute(
            "INSERT OR IGNORE INTO recall_blocks (agent, key, occurrence, turn, text, items, created_at, spans)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*place, turn_id, block.text, json.dumps(block.items), now, json.dumps(block.spans)),
        ).rowcount
        if is_first:
            connection.executemany(
                "INSERT OR IGNORE INTO block_memories VALUES (?, ?, ?, ?)",
                [(memory, *place) for memory in memories_of(block)],
            )


def memories_of(block: RecallBlock) -> list[str]:
    """The ids of the memories in ``block``."""
    return [name.removeprefix(MEMORY_ITEM) for name in block.items if name.startswith(MEMORY_ITEM)]


def without(block: RecallBlock, gone: Collection[str]) -> RecallBlock:
    """``block`` without the text of the items in ``gone``. Without spans, or with nothing left, it is empty."""
    kept = [index for index, name in enumerate(block.items) if name not in gone]
    if len(kept) == len(block.items):
        return block
    if not kept or len(block.spans) != len(block.items):
        return RecallBlock(text="", turn=block.turn)
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    removed = end = 0
    for index, (begin, stop) in sorted(enumerate(block.spans), key=lambda span: span[1]):
        if index in kept:
            spans.append((begin - removed, stop - removed))
        else:
            pieces.append(block.text[end:begin])
            removed, end = removed + stop - begin, stop
    pieces.append(block.text[end:])
    return RecallBlock(
        text="".join(pieces), items=tuple(block.items[index] for index in kept), spans=tuple(spans), turn=block.turn
    )


def memories_in_blocks(connection: sqlite3.Connection) -> list[str]:
    """The ids of all memories whose text is in some block."""
    rows = connection.execute("SELECT DISTINCT memory FROM block_memories ORDER BY memory")
    return [memory for (memory,) in rows.fetchall()]


def select_weighed(connection: sqlite3.Connection, turn_id: str) -> list[Weighed]:
    """What was weighed in a turn, what was recalled first, then by score."""
    rows = connection.execute(
        "SELECT kind, item, score, outcome FROM recalls WHERE turn = ?"
        " ORDER BY outcome <> 'recalled', kind DESC, score DESC, item",
        (turn_id,),
    )
    return [Weighed(kind=row[0], item=row[1], score=row[2], outcome=row[3]) for row in rows.fetchall()]


def insert_weighed(connection: sqlite3.Connection, turn_id: str, weighed: Sequence[Weighed]) -> None:
    """Write what was weighed in a turn."""
    connection.executemany(
        "INSERT OR REPLACE INTO recalls VALUES (?, ?, ?, ?, ?)",
        [(turn_id, one.kind, one.item, one.score, one.outcome) for one in weighed],
    )


def block_of(row: sqlite3.Row | tuple[str, str, str, str]) -> RecallBlock:
    """The block in a row of its text, items, spans and turn."""
    text, items, spans, turn = row
    return RecallBlock(
        text=text,
        items=tuple(json.loads(items)),
        spans=tuple((begin, end) for begin, end in json.loads(spans)),
        turn=turn,
    )
