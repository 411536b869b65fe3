"""Memories of an older system's database.

Owns its table and what each of its units is here; refuses to know which folder it is in and who asks. Invariants:
nothing beside their file is made or changed, for a copy is what is read; what is not taken has a reason; and what was
taken, or forgotten here since, is not taken again.

Their scopes are names: ``user:ID``, ``workspace:ID`` and ``session:ID`` joined by ``|``, before them the name of a
scope of its own, or the default one, which everybody shares.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from metaclaw.errors import InvalidRequestError, JournalError
from metaclaw.identity import DEFAULT_AGENT
from metaclaw.memory.rows import insert_unit
from metaclaw.memory.secrets import holds_secret
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.units import MAX_TEXT, Kind, MemoryUnit, digest_of

TRUST = 0.6  # theirs were made of prompts and answers as well as of what a user said
_KINDS: Mapping[str, Kind] = {
    "episodic": "episodic",
    "semantic": "semantic",
    "preference": "preference",
    "project_state": "project_state",
    "working_summary": "working_summary",
    "procedural_observation": "procedural",
}
# What a row has where their release was too old for a column.
_COLUMNS: Mapping[str, Any] = {
    "memory_id": None, "scope_id": "default", "memory_type": None, "content": None, "source_session_id": "",
    "confidence": 0.7, "status": "active", "superseded_by": "", "created_at": None, "updated_at": "", "expires_at": "",
}  # fmt: skip
_BESIDE = ("memory_links", "memory_annotations")
_TRIES = 5

Reason = Literal["secret", "too long", "archived", "expired", "no successor", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """One of theirs that is not taken. ``id`` is theirs; its words are never here."""

    id: str
    why: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """What a database holds: units as they would be here, those that hold first, and what is left out."""

    units: tuple[MemoryUnit, ...]
    left_out: tuple[LeftOut, ...]
    beside: Mapping[str, int]  # rows of their tables that have no place here


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """What taking units in comes to."""

    new: tuple[MemoryUnit, ...]
    num_known: int = 0
    num_forgotten: int = 0
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scopes:
    """What the names of scopes mean: the one of all, whose agent it is, and names that are agents'."""

    default: str = "default"
    default_agent: str = DEFAULT_AGENT
    agents: frozenset[str] = frozenset()

    def owner(self, scope_id: str) -> tuple[str, dict[str, str]]:
        """Whose a unit of a scope is: the agent, and the fields that say who else."""
        named = {kind: value for kind, value in _parts(scope_id) if value}
        name = named.pop("", self.default)
        if name not in self.agents and name not in ("default", self.default):
            named.setdefault("workspace", name)  # a scope apart from all others stays apart
        scope = next((kind for kind in ("session", "user", "workspace") if kind in named), "agent")
        return name if name in self.agents else self.default_agent, {"scope": scope, **named}


def read_theirs(path: Path, scopes: Scopes, *, now: float) -> Theirs:
    """Read the database at ``path``.

    Raises ``JournalError`` when it is no such database, or is being written to all the time.
    """
    with tempfile.TemporaryDirectory(prefix="metaclaw-") as scratch:
        copy = _copied(path, Path(scratch))
        try:
            with closing(sqlite3.connect(copy)) as connection:
                connection.execute("PRAGMA trusted_schema = OFF")
                (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if verdict != "ok":
                    raise JournalError(f"{path} is damaged: {verdict}; it is as it was")
                rows = _rows(connection)
                if rows is None:
                    raise JournalError(f"{path} has no table of memories as the older system made it")
                beside = _counts(connection)
        except sqlite3.Error as error:
            raise JournalError(
                f"{path} is no memory of the older system: {error}. Nothing in it was changed."
            ) from error
    units: list[MemoryUnit] = []
    left_out: list[LeftOut] = []
    for row in rows:
        found = _unit(row, scopes, now)
        units.append(found) if isinstance(found, MemoryUnit) else left_out.append(found)
    units.sort(key=lambda unit: unit.superseded_by is not None)
    return Theirs(units=tuple(units), left_out=tuple(left_out), beside=beside)


def would_take(store: MemoryStore | None, units: Sequence[MemoryUnit]) -> Taking:
    """What taking ``units`` into ``store`` would come to; without a store, into an empty one."""
    kept: dict[str, str] = {}
    new: dict[str, MemoryUnit] = {}
    forgotten = known = 0
    digests: dict[bytes, str] = {}
    for unit in (one for one in units if one.superseded_by is None):
        there = digests.get(digest_of(unit)) or _there(store, unit)
        if _was_forgotten(store, unit):
            forgotten += 1
        elif there is not None:
            known += 1
            kept[unit.id] = there
        else:
            new[unit.id] = unit
            kept[unit.id] = digests[digest_of(unit)] = unit.id
    left = {one.id: one for one in units if one.superseded_by is not None}
    while ready := [one for one in left.values() if one.superseded_by in kept]:
        for unit in ready:  # the one that took its place first
            del left[unit.id]
            kept[unit.id] = unit.id
            if _was_forgotten(store, unit):
                forgotten += 1
            elif _there(store, unit) == unit.id:
                known += 1
            else:
                new[unit.id] = replace(unit, superseded_by=kept[unit.superseded_by or ""])
    lost = tuple(LeftOut(id=one.id, why="no successor") for one in left.values())
    return Taking(new=tuple(new.values()), num_known=known, num_forgotten=forgotten, left_out=lost)


def take(store: MemoryStore, units: Sequence[MemoryUnit]) -> Taking:
    """Take ``units`` in: all of what is new, or nothing. Raises ``JournalError``."""
    with store.writing("import into"):
        taking = would_take(store, units)
        for unit in taking.new:
            insert_unit(store.connection, unit)
    return taking


def _copied(path: Path, folder: Path) -> Path:
    # SQLite would make files beside a database that it opens, even for reading. Its log holds the newest rows.
    for _ in range(_TRIES):
        before = _stamps(path)
        for one in _files(path):
            shutil.copyfile(one, folder / one.name)
        if _stamps(path) == before:
            return folder / path.name
    raise JournalError(f"{path} is being written to: stop the other MetaClaw first")


def _files(path: Path) -> list[Path]:
    log = path.with_name(f"{path.name}-wal")
    return [path, log] if log.exists() else [path]


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    return [(one.name, one.stat().st_mtime_ns, one.stat().st_size) for one in _files(path)]


def _rows(connection: sqlite3.Connection) -> list[dict[str, Any]] | None:
    names = [name for _, name, *_ in connection.execute("PRAGMA table_info(memories)").fetchall()]
    if not {"memory_id", "content", "memory_type"} <= set(names):
        return None
    read = [name for name in _COLUMNS if name in names]
    found = connection.execute(f"SELECT {', '.join(read)} FROM memories ORDER BY created_at, memory_id").fetchall()
    return [{**_COLUMNS, **dict(zip(read, row, strict=True))} for row in found]


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
    counts = {
        name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in _BESIDE if name in tables
    }
    return {name: number for name, number in counts.items() if number}


def _unit(row: Mapping[str, Any], scopes: Scopes, now: float) -> MemoryUnit | LeftOut:
    theirs = str(row["memory_id"])[:200]
    text = str(row["content"] or "").strip()
    until = _time(row["expires_at"])
    status = str(row["status"] or "active")
    if why := _why_not(text, status, until, now):
        return LeftOut(id=theirs, why=why)
    kind, said_at = _KINDS.get(str(row["memory_type"])), _time(row["created_at"])
    if kind is None or said_at is None or status not in ("active", "superseded"):
        named = ", ".join(f"{name} {row[name]!r:.40}" for name in ("memory_type", "created_at", "status"))
        return LeftOut(id=theirs, why="unreadable", detail=named)
    if status == "superseded":
        until = _time(row["updated_at"]) or said_at
    agent, whose = scopes.owner(str(row["scope_id"] or scopes.default))
    try:
        return MemoryUnit(
            id=_id(theirs),
            kind=kind,
            text=text,
            agent=agent,
            said_at=said_at,
            created_at=said_at,
            source="import",
            trust=TRUST,
            confidence=min(max(float(row["confidence"]), 0.0), 1.0),
            true_until=until,
            superseded_by=_id(str(row["superseded_by"] or "")) if status == "superseded" else None,
            **{"session": str(row["source_session_id"] or "") or None, **whose},  # pyright: ignore[reportArgumentType]
        )
    except (InvalidRequestError, ValueError, TypeError) as error:
        return LeftOut(id=theirs, why="unreadable", detail=str(error))


def _why_not(text: str, status: str, until: float | None, now: float) -> Reason | None:
    if not text:
        return "unreadable"
    if status == "archived":
        return "archived"
    if until is not None and until <= now:
        return "expired"
    if holds_secret(text):
        return "secret"
    return "too long" if len(text) > MAX_TEXT else None


def _parts(scope_id: str) -> Iterator[tuple[str, str]]:
    for part in scope_id.split("|"):
        kind, found, value = part.strip().partition(":")
        yield (kind, value.strip()) if found and kind in ("user", "workspace", "session") else ("", part.strip())


def _there(store: MemoryStore | None, unit: MemoryUnit) -> str | None:
    if store is None:
        return None
    row = store.connection.execute(
        "SELECT id FROM units WHERE id = ? OR (digest = ? AND superseded_by IS NULL) ORDER BY id <> ?",
        (unit.id, digest_of(unit), unit.id),
    ).fetchone()
    return row[0] if row else None


def _was_forgotten(store: MemoryStore | None, unit: MemoryUnit) -> bool:
    if store is None:
        return False
    query = "SELECT 1 FROM forgotten WHERE id = ? OR digest = ? LIMIT 1"
    return store.connection.execute(query, (unit.id, digest_of(unit))).fetchone() is not None


def _id(theirs: str) -> str:
    return f"m-{hashlib.sha256(f'older system: {theirs}'.encode()).hexdigest()[:16]}"


def _time(text: object) -> float | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
