"""The updates that came to an end, in the order in which they began.

Owns one query over ``learning.db``, read-only; refuses to write. Invariant: an update is in an answer once it is
committed or rejected, never before, and its numbers do not change afterwards.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from metaclaw.journal.database import reading
from metaclaw.journal.learning_records import Update

_FINISHED = """
    SELECT id, agent, parent, state, reason, started_at, finished_at, metrics FROM updates
    WHERE id > ? AND state IN ('committed', 'rejected') ORDER BY id LIMIT ?
"""


def finished_updates(learning_db: Path, *, after: int, limit: int = 100) -> list[Update]:
    """Those whose number is above ``after``. Raises ``JournalError``."""
    with reading(learning_db) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute(_FINISHED, (after, limit)).fetchall()
    return [Update(**{**dict(row), "metrics": json.loads(row["metrics"])}) for row in rows]
