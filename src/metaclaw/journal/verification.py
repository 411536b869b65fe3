"""Whether the journal is whole.

Owns the checks of ``turns.db`` and its spool; refuses to repair. Invariant: it only reads, so it may run beside the
gateway.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import JournalError
from metaclaw.journal.database import reading, refuse_older
from metaclaw.journal.spool import Spool

_SCHEMA = 2  # the first with a spool
_ORPHANS = {
    "messages that no turn has": """
        SELECT count(*) FROM messages AS m WHERE NOT EXISTS (SELECT 1 FROM links WHERE message = m.hash)
            AND NOT EXISTS (SELECT 1 FROM turns WHERE answer = m.hash)
    """,
    "histories that no turn has": """
        SELECT count(*) FROM links AS l WHERE NOT EXISTS (SELECT 1 FROM turns WHERE head = l.hash)
            AND NOT EXISTS (SELECT 1 FROM links WHERE parent = l.hash)
    """,
    "samples without a turn": "SELECT count(*) FROM samples WHERE turn NOT IN (SELECT id FROM turns)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found. ``problems`` are faults; ``spool_records`` wait to be written, which is none."""

    num_turns: int
    num_messages: int
    num_links: int
    spool_records: int
    problems: tuple[str, ...]


def verify(turns_db: Path) -> Verification:
    """Check the file, its references, every hash, and the spool beside it. Raises ``JournalError``."""
    with reading(turns_db) as connection:
        connection.execute("BEGIN")
        if not refuse_older(connection, turns_db, schema=_SCHEMA):
            raise JournalError(f"{turns_db} is being made; it is there once the gateway has started")
        written = dict(connection.execute("SELECT segment, written FROM spool").fetchall())
        problems = [*_structure(connection), *_hashes(connection)]
        counts = [
            connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("turns", "messages", "links")
        ]
    spool_records, torn = _spool(Spool(turns_db.with_name("spool")), written)
    return Verification(
        num_turns=counts[0],
        num_messages=counts[1],
        num_links=counts[2],
        spool_records=spool_records,
        problems=(*problems, *torn),
    )


def _structure(connection: sqlite3.Connection) -> list[str]:
    problems = [row[0] for row in connection.execute("PRAGMA integrity_check(20)") if row[0] != "ok"]
    references = connection.execute("PRAGMA foreign_key_check").fetchall()
    if references:
        tables = ", ".join(sorted({row[0] for row in references}))
        problems.append(f"{len(references)} references to rows that are not there, in {tables}")
    for what, query in _ORPHANS.items():
        if number := connection.execute(query).fetchone()[0]:
            problems.append(f"{number} {what}")
    return problems


def _hashes(connection: sqlite3.Connection) -> list[str]:
    problems: list[str] = []
    wrong = sum(
        hashlib.sha256(body.encode()).digest() != key
        for key, body in connection.execute("SELECT hash, body FROM messages")
    )
    if wrong:
        problems.append(f"{wrong} messages that are not what their hash says")
    links = connection.execute("SELECT hash, parent, message FROM links")
    wrong = sum(hashlib.sha256((parent or b"") + message).digest() != key for key, parent, message in links)
    if wrong:
        problems.append(f"{wrong} histories that are not what their hash says")
    return problems


def _spool(spool: Spool, written: dict[int, int]) -> tuple[int, list[str]]:
    num_records, torn = 0, list[str]()
    for segment in spool.segments():
        name = spool.path(segment).name
        try:
            for place, record in spool.scan(segment, written.get(segment, 0)):
                if record is not None:
                    num_records += 1
                else:
                    torn.append(f"{name} has no whole record from byte {place.start} to {place.end}")
        except FileNotFoundError:  # the gateway has written all of it meanwhile
            continue
        except OSError as error:
            torn.append(f"{name} cannot be read: {error.strerror}")
    return num_records, torn
