"""The index of words, made anew when words take another form.

Owns knowing of which form it is; refuses to know the forms. Invariant: it is made in short transactions, newest units
first, so that others read and write meanwhile; and it counts as made only when all of it is.
"""

from __future__ import annotations

from metaclaw.memory.store import MemoryStore, told
from metaclaw.memory.word_index import is_index_whole, put_into_index
from metaclaw.retrieval.words import VERSION

_BATCH = 500


def is_index_old(store: MemoryStore) -> bool:
    """Whether there are units whose words in the index are of another form than those that are looked for."""
    with told("read"):
        (has_units,) = store.connection.execute("SELECT EXISTS (SELECT 1 FROM units)").fetchone()
        return bool(has_units) and not is_index_whole(store.connection)


def reindex(store: MemoryStore) -> int:
    """Make the index anew if it is old; of how many units. Blocking, some seconds for 10,000."""
    if not is_index_old(store):
        _note(store)
        return 0
    number, last = 0, None
    while True:
        with store.writing("index"):
            rows = store.connection.execute(
                "SELECT seq, agent, text || ' ' || subject FROM units WHERE ?1 IS NULL OR seq < ?1"
                " ORDER BY seq DESC LIMIT ?2",
                (last, _BATCH),
            ).fetchall()
            for seq, agent, text in rows:
                put_into_index(store.connection, seq, agent, text)
        if not rows:
            break
        number, last = number + len(rows), rows[-1][0]
    _note(store)
    return number


def _note(store: MemoryStore) -> None:
    with store.writing("index"):
        store.connection.execute("DELETE FROM index_version WHERE version <> ?", (VERSION,))
        store.connection.execute(
            "INSERT INTO index_version SELECT ? WHERE NOT EXISTS (SELECT 1 FROM index_version)", (VERSION,)
        )
