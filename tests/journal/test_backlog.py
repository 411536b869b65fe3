"""Records on their way into a database that has no room for them in the middle of a transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from metaclaw.journal.backlog import Backlog
from metaclaw.journal.spool import Spool, SpoolRecord


def insert(db: sqlite3.Connection, record: SpoolRecord) -> int:
    """What takes more pages than the database may have fails as on a full disk, by SQLite's own word."""
    number: int = record.header["n"]
    db.execute("INSERT INTO turns VALUES (?, ?)", (number, b"".join(record.parts)))
    return number


def room(db: sqlite3.Connection, more_pages: int) -> None:
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + more_pages}")


def write_all(backlog: Backlog, db: sqlite3.Connection) -> None:
    while backlog.has_more:
        backlog.write(db, lambda: False)


def test_a_record_that_has_no_room_now_is_not_taken_for_one_that_cannot_be_written(tmp_path: Path) -> None:
    """PITFALLS, run under faults: the disk fills while running, and none of what was said was kept."""
    backlog = Backlog(Spool(tmp_path / "spool"), insert)
    written: list[int] = []
    backlog.on_written = written.extend
    with closing(sqlite3.connect(tmp_path / "turns.db", isolation_level=None)) as db:
        db.execute("CREATE TABLE turns (n INTEGER, body BLOB)")
        db.execute("CREATE TABLE spool (segment INTEGER PRIMARY KEY, upto INTEGER)")
        for number in range(6):
            backlog.append(SpoolRecord(header={"n": number}, parts=(b"x" * 50_000,)))
        room(db, 40)
        for _ in range(3):
            db.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError, match="full"):
                write_all(backlog, db)
            if db.in_transaction:
                db.execute("ROLLBACK")
            backlog.rolled_back()
        assert (written, backlog.num_refused, backlog.state.num_records) == ([], 0, 6)
        room(db, 10_000)
        while backlog.has_more:
            db.execute("BEGIN IMMEDIATE")
            backlog.write(db, lambda: False)
            db.execute("COMMIT")
            backlog.committed()
        kept = db.execute("SELECT n, length(body) FROM turns ORDER BY rowid").fetchall()
    assert written == list(range(6))
    assert kept == [(number, 50_000) for number in range(6)]
    assert (backlog.num_refused, backlog.state.num_records, backlog.state.num_lost) == (0, 0, 0)
