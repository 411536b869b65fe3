"""Taking forgotten memories out of ``turns.db``, down to the bytes.

Owns which blocks, prompts and pages that concerns; refuses to know why something was forgotten. Invariant: whatever may
still hold bytes of erased text is noted in the transaction that erased it, until it was written anew.

Deleting alone is not enough: when SQLite splits a page it leaves copies of rows in the unused part of it, with
``secure_delete`` too (measured: of 100 texts erased among 600, one or two were found in the file).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from metaclaw.errors import JournalError
from metaclaw.journal.holding import turns_that_held
from metaclaw.journal.recall_blocks import WHERE, block_of, without
from metaclaw.journal.turn_records import MEMORY_ITEM

MAX_REWRITTEN = 64 * 1024 * 1024  # characters of blocks: written anew beside running turns within a second
_TABLES = ("block_memories", "recall_blocks")  # those that refer first
_ERASED = "a memory in its prompt was forgotten"


def erase_memories(
    connection: sqlite3.Connection, memories: Collection[str], *, max_rewritten: int | None = MAX_REWRITTEN
) -> int:
    """Within a transaction, take the text of ``memories`` out of every block; how many blocks that were.

    What the policy drew in the sessions that had them is not trained on any more, and loses its prompt. The blocks are
    written anew, unless there is more of them than ``max_rewritten``: that is left to ``rewrite_blocks``.
    """
    connection.execute("PRAGMA secure_delete = ON")
    erased = 0
    for memory in memories:
        places = connection.execute(
            "SELECT agent, key, occurrence FROM block_memories WHERE memory = ?", (memory,)
        ).fetchall()
        for place in places:
            row = connection.execute(f"SELECT text, items, spans, turn FROM recall_blocks WHERE {WHERE}", place)
            block = without(block_of(row.fetchone()), {MEMORY_ITEM + memory})
            connection.execute(
                f"UPDATE recall_blocks SET text = ?, items = ?, spans = ? WHERE {WHERE}",
                (block.text, json.dumps(block.items), json.dumps(block.spans), *place),
            )
            _forget_prompts(connection, block.turn)
            erased += 1
        connection.execute("DELETE FROM block_memories WHERE memory = ?", (memory,))
    if erased:
        connection.execute("INSERT OR REPLACE INTO erasures VALUES (1, 1)")
        rewrite_blocks(connection, max_rewritten)
    connection.execute("PRAGMA secure_delete = OFF")
    return erased


def is_erasure_due(connection: sqlite3.Connection) -> bool:
    """Whether pages may hold bytes of what was erased."""
    return connection.execute("SELECT 1 FROM erasures WHERE is_due").fetchone() is not None


def rewrite_blocks(connection: sqlite3.Connection, max_rewritten: int | None = None) -> bool:
    """Within a transaction, write the blocks onto fresh pages and blank the old ones; false when they are too many."""
    (size,) = connection.execute("SELECT coalesce(sum(length(text)), 0) FROM recall_blocks").fetchone()
    if max_rewritten is not None and size > max_rewritten:
        return False
    connection.execute("PRAGMA secure_delete = ON")
    kept = {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for table in _TABLES}
    made = connection.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name IN (?, ?) ORDER BY type = 'index', rowid",
        _TABLES,
    ).fetchall()
    for table in _TABLES:
        connection.execute(f"DROP TABLE {table}")
    for (statement,) in made:
        connection.execute(statement)
    for table in reversed(_TABLES):
        if rows := kept[table]:
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", map(tuple, rows))
    connection.execute("DELETE FROM erasures")
    connection.execute("PRAGMA secure_delete = OFF")
    return True


def empty_log(path: Path) -> bool:
    """Write the log of a database into its file and cut it to nothing; false while somebody reads from it.

    Nobody who reads waits for it, and whoever writes waits only as long as the log is being written. Raises
    ``JournalError``.
    """
    try:
        with closing(sqlite3.connect(path, timeout=0.0)) as connection:
            (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:  # somebody is writing at this moment
        return False
    except sqlite3.Error as error:
        raise JournalError(f"the log of {path} cannot be emptied: {error}") from error
    return not is_busy


def _forget_prompts(connection: sqlite3.Connection, turn_id: str) -> None:
    connection.execute(
        "UPDATE samples SET prompt_tokens = x'', untrainable = coalesce(untrainable, ?)"
        " WHERE turn IN (SELECT value FROM json_each(?))",
        (_ERASED, json.dumps(turns_that_held(connection, turn_id))),
    )
