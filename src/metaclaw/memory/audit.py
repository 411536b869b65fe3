"""Whether what was forgotten is gone.

Owns the proof, of the store, of what was recalled and of what was learned; refuses to change anything and to know how
anything is forgotten. Invariant: what is promised and not so is a problem; what forgetting cannot reach is named and is
none.
"""

from __future__ import annotations

import json
import mmap
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from metaclaw.journal.database import reading
from metaclaw.journal.descent import Descendant, descendants, turns_that_held
from metaclaw.journal.erasing import is_erasure_due
from metaclaw.journal.turns import TurnReader
from metaclaw.memory.forgetting import Tombstone, tombstones
from metaclaw.memory.store import MemoryStore, told
from metaclaw.memory.vector_files import num_stray_rows

_TURNS_SCHEMA = 4  # the first that notes erasures
_AMONG = "IN (SELECT id FROM forgotten)"
_IN_STORE = {
    "memories that were forgotten are there again": f"units WHERE id {_AMONG}",
    "index rows are of no memory that there is": "words WHERE rowid NOT IN (SELECT seq FROM units)",
    "turns are noted for memories that were forgotten": f"unit_turns WHERE unit {_AMONG}",
    "uses are counted of memories that were forgotten": f"uses WHERE unit {_AMONG}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that forgetting promises and that is not so, and what to do."""

    what: str
    number: int
    cure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A copy of the store that has something which was forgotten here."""

    path: str
    kind: str
    made_at: float
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found. ``turns`` are the recorded turns that something forgotten was said in; they are the journal's."""

    forgotten: int
    problems: tuple[Problem, ...]
    descendants: tuple[Descendant, ...]
    copies: tuple[Copy, ...]
    turns: tuple[str, ...]


def audit(store: MemoryStore, *, turns_db: Path, learning_db: Path) -> Audit:
    """Look at everything that forgetting promises. Raises ``JournalError`` for what cannot be read."""
    gone = tombstones(store)
    said_in = frozenset(turn for one in gone for turn in one.turns)
    return Audit(
        forgotten=len(gone),
        problems=(*_in_store(store, gone), *_in_journal(turns_db, {one.id for one in gone})),
        descendants=tuple(descend_from(gone, turns_db=turns_db, learning_db=learning_db)),
        copies=tuple(_copies(store, gone)),
        turns=tuple(_kept(turns_db, said_in)),
    )


def descend_from(gone: Collection[Tombstone], *, turns_db: Path, learning_db: Path) -> list[Descendant]:
    """The skills and versions that were made of turns in which it was said or that were answered knowing it."""
    turns = {turn for one in gone for turn in one.turns}
    turns |= turns_that_held(turns_db, {one.id for one in gone})
    return descendants(learning_db, turns)


def files_with(home: Path, text: str) -> list[tuple[Path, int]]:
    """The files below ``home`` in whose bytes ``text`` is, written as anybody may have written it, and how often."""
    wanted = {text.encode(), json.dumps(text)[1:-1].encode(), text.encode("utf-16-le"), text.casefold().encode()}
    found: list[tuple[Path, int]] = []
    for path in sorted(home.rglob("*")):
        if path.is_file() and not path.is_symlink() and (number := sum(_count(path, one) for one in wanted)):
            found.append((path, number))
    return found


def _in_store(store: MemoryStore, gone: Collection[Tombstone]) -> Iterator[Problem]:
    doctor = "`metaclaw memory doctor --fix`"
    with told("audit"):
        for what, where in _IN_STORE.items():
            (number,) = store.connection.execute(f"SELECT count(*) FROM {where}").fetchone()
            if number:
                cure = "`metaclaw memory forget` them again" if what.startswith("memories") else doctor
                yield Problem(what=what, number=number, cure=cure)
        if number := num_stray_rows(store.connection):
            yield Problem(what="vectors that no memory has", number=number, cure=doctor)
        try:
            store.connection.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
        except sqlite3.DatabaseError:
            yield Problem(what="index is not what the memories say", number=1, cure=doctor)
    if waiting := sum(one.cleared_at is None for one in gone):
        yield Problem(
            what="memories were forgotten and their bytes may still be in the file or its log",
            number=waiting,
            cure="`metaclaw memory doctor` writes the file anew",
        )


def _in_journal(turns_db: Path, gone: Collection[str]) -> Iterator[Problem]:
    if not turns_db.exists():
        return
    with TurnReader.open(turns_db) as reader:
        told_still = len(frozenset(gone) & frozenset(reader.recalled_memories()))
    cure = "a running gateway does it within seconds; where none runs, `metaclaw memory doctor` does"
    if told_still:
        yield Problem(what="forgotten memories are in recalled blocks of the journal", number=told_still, cure=cure)
    with reading(turns_db) as connection:
        is_new = connection.execute("PRAGMA user_version").fetchone()[0] >= _TURNS_SCHEMA
        if is_new and is_erasure_due(connection):
            yield Problem(
                what="journal's pages may hold bytes of recalled text that was erased",
                number=1,
                cure="`metaclaw memory doctor`, while MetaClaw is stopped",
            )


def _kept(turns_db: Path, turns: Collection[str]) -> Iterator[str]:
    if turns and turns_db.exists():
        with TurnReader.open(turns_db) as reader:
            yield from (turn for turn in sorted(turns) if reader.turn(turn) is not None)


def _copies(store: MemoryStore, gone: Collection[Tombstone]) -> Iterator[Copy]:
    with told("read"):
        rows = store.connection.execute("SELECT path, kind, made_at FROM copies ORDER BY made_at").fetchall()
    for path, kind, made_at in rows:
        if number := sum(Path(path).is_file() and _count(Path(path), one.id.encode()) > 0 for one in gone):
            yield Copy(path=path, kind=kind, made_at=made_at, number=number)


def _count(path: Path, wanted: bytes) -> int:
    number = 0
    with path.open("rb") as file:
        if not wanted or path.stat().st_size == 0:
            return 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = content.find(wanted)
            while at >= 0:
                number, at = number + 1, content.find(wanted, at + 1)
    return number
