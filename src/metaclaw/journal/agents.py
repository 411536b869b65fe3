"""What the databases hold of an agent: counted, renamed, removed.

Owns finding every table that knows agents, whatever release made it; refuses to know what the rows mean and who asks.
Invariant: each file is changed in one transaction, and doing the same again changes nothing more. Nobody else may write
the file meanwhile: the caller sees to that.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from metaclaw.errors import JournalError
from metaclaw.journal.database import reading, transaction

# What history and messages no turn that is left needs.
_UNUSED = (
    """
    WITH RECURSIVE kept (hash) AS (
        SELECT head FROM turns WHERE head IS NOT NULL
        UNION SELECT links.parent FROM links JOIN kept ON links.hash = kept.hash WHERE links.parent IS NOT NULL
    ) DELETE FROM links WHERE hash NOT IN (SELECT hash FROM kept)
    """,
    """
    DELETE FROM messages WHERE hash NOT IN (SELECT message FROM links)
        AND hash NOT IN (SELECT answer FROM turns WHERE answer IS NOT NULL)
    """,
    "DELETE FROM recalls WHERE turn NOT IN (SELECT id FROM turns)",
)


def rows_of_agents(path: Path) -> dict[str, dict[str, int]]:
    """By agent, how many rows each table of the database at ``path`` has of it; nothing without a file."""
    if not path.exists():
        return {}
    found: dict[str, dict[str, int]] = {}
    try:
        with reading(path) as connection:
            for table in _tables(connection):
                query = f"SELECT agent, count(*) FROM {table} WHERE agent IS NOT NULL GROUP BY agent"
                for agent, number in connection.execute(query).fetchall():
                    found.setdefault(agent, {})[table] = number
    except sqlite3.Error as error:
        raise JournalError(f"{path} cannot be read: {error}") from error
    return found


def rename_rows(path: Path, old: str, new: str) -> int:
    """Make the rows of ``old`` those of ``new``; how many. Raises ``JournalError``, and then nothing was changed."""
    return _change(path, [("UPDATE {table} SET agent = ? WHERE agent = ?", (new, old))])


def remove_rows(path: Path, agent: str) -> int:
    """Delete the rows of ``agent`` and what refers to them; how many of them. Raises ``JournalError``."""
    return _change(path, [("DELETE FROM {table} WHERE agent = ?", (agent,))], is_removal=True)


def _change(path: Path, statements: list[tuple[str, tuple[str, ...]]], *, is_removal: bool = False) -> int:
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=10.0)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            number = 0
            with transaction(connection):
                connection.execute("PRAGMA defer_foreign_keys = ON")
                for table in _tables(connection):
                    for statement, values in statements:
                        number += connection.execute(statement.format(table=table), values).rowcount
                if is_removal:
                    _remove_orphans(connection)
            if is_removal and number:
                connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return number
    except sqlite3.Error as error:
        raise JournalError(f"{path} cannot be changed: {error}; nothing in it was") from error


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT m.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c"
        " WHERE m.type = 'table' AND m.sql NOT LIKE 'CREATE VIRTUAL%' AND c.name = 'agent' ORDER BY m.name"
    )
    return [name for (name,) in rows.fetchall()]


def _remove_orphans(connection: sqlite3.Connection) -> None:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
    if {"turns", "links", "messages"} <= set(tables):
        for statement in _UNUSED:
            connection.execute(statement)
    for table in tables:
        for key in connection.execute(f"PRAGMA foreign_key_list({table})").fetchall():
            parent, column, target = key[2], key[3], key[4]
            if parent != table and target is not None:
                is_left = f"{column} IN (SELECT {target} FROM {parent})"
                connection.execute(f"DELETE FROM {table} WHERE {column} IS NOT NULL AND NOT {is_left}")
