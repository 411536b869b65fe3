"""Whether the store is whole.

Owns the checks and the repairs that lose nothing; refuses to repair anything else. Invariant: units are never changed:
only the index and tables beside them, which follow from the units, are made anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from metaclaw.memory.reindexing import reindex
from metaclaw.memory.store import MemoryStore, told
from metaclaw.memory.vector_files import drop_broken, erase_vectors, unknown_files, vector_files
from metaclaw.memory.word_index import index_body, put_into_index

_BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """Something that is not as it should be. ``number`` of rows."""

    what: str
    number: int
    is_mendable: bool


_ORPHANS = {
    "index rows without a unit": "words WHERE rowid NOT IN (SELECT seq FROM units)",
    "turns of units that are not there": "unit_turns WHERE unit NOT IN (SELECT id FROM units)",
    "uses of units that are not there": "uses WHERE unit NOT IN (SELECT id FROM units)",
    "vectors of units that are not there": "vectors WHERE unit NOT IN (SELECT seq FROM units)",
}
_LOST_SUCCESSORS = (
    "units WHERE superseded_by IS NOT NULL AND superseded_by NOT IN (SELECT id FROM units)"
    " AND superseded_by NOT IN (SELECT id FROM forgotten)"
)


def examine(store: MemoryStore) -> list[Complaint]:
    """What is wrong; nothing when all is well."""
    with told("examine"):
        (verdict,) = store.connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            return [Complaint(what=f"the file is damaged: {verdict}", number=1, is_mendable=False)]
        complaints = [
            Complaint(what=what, number=_count(store, table), is_mendable=True) for what, table in _ORPHANS.items()
        ]
        stale = len(_stale(store))
        complaints.append(Complaint(what="units that the index has not as they are", number=stale, is_mendable=True))
        broken = sum(not file.is_whole for file in vector_files(store.connection))
        complaints.append(Complaint(what="files of vectors that are not whole", number=broken, is_mendable=True))
        strange = len(unknown_files(store.connection))
        complaints.append(Complaint(what="files of vectors that nobody knows", number=strange, is_mendable=True))
        lost = _count(store, _LOST_SUCCESSORS)
        complaints.append(Complaint(what="units whose successor is not there", number=lost, is_mendable=False))
    return [complaint for complaint in complaints if complaint.number]


def mend(store: MemoryStore) -> None:
    """Make anew what follows from the units, in transactions that nobody waits for long."""
    with store.writing("mend"):
        orphans = store.connection.execute("SELECT unit FROM vectors WHERE unit NOT IN (SELECT seq FROM units)")
        erase_vectors(store.connection, [unit for (unit,) in orphans.fetchall()])
        drop_broken(store.connection)
        for table in _ORPHANS.values():
            store.connection.execute(f"DELETE FROM {table}")
    reindex(store)
    with told("read"):
        stale = [seq for seq, *_ in _stale(store)]
    for first in range(0, len(stale), _BATCH):
        with store.writing("mend"):
            there = store.connection.execute(  # by now: what was forgotten meanwhile must not come back
                "SELECT seq, agent, text || ' ' || subject FROM units WHERE seq IN (SELECT value FROM json_each(?))",
                (json.dumps(stale[first : first + _BATCH]),),
            ).fetchall()
            for seq, agent, text in there:
                put_into_index(store.connection, seq, agent, text)


def _count(store: MemoryStore, table: str) -> int:
    return store.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def _stale(store: MemoryStore) -> list[tuple[int, str, str]]:
    rows = store.connection.execute(
        "SELECT units.seq, units.agent, units.text || ' ' || units.subject, words.body"
        " FROM units LEFT JOIN words ON words.rowid = units.seq"
    )
    return [(seq, agent, text) for seq, agent, text, body in rows.fetchall() if body != index_body(agent, text)]
