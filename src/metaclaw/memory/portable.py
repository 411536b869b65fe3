"""Memory as lines of JSON, and as a copy of its file; and taking either in again.

Owns the format of the lines; refuses to know where they go. Invariants: what is exported and imported again is the same
unit, field by field; what is not a unit is refused by the number of its line, and then nothing of the file is taken;
and no import brings in a secret, or unasked what was forgotten.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

from metaclaw.errors import InvalidRequestError
from metaclaw.memory.consolidation import was_forgotten
from metaclaw.memory.rows import insert_unit
from metaclaw.memory.secrets import holds_secret
from metaclaw.memory.store import MemoryStore, told
from metaclaw.memory.units import KINDS, SCOPES, SOURCES, MemoryUnit

_PAGE = 500
_SQLITE = b"SQLite format 3\x00"
_ALLOWED = {"kind": KINDS, "scope": SCOPES, "source": SOURCES}
_NUMBERS = ("said_at", "created_at", "trust", "confidence")
_MAYBE_NUMBERS = ("true_from", "true_until")
_TIMES = ("said_at", "created_at", *_MAYBE_NUMBERS)
_YEARS = -62_000_000_000.0, 253_370_000_000.0  # seconds that have a date: of the years 5 to 9998
_TEXTS = ("id", "text", "agent", "subject")
_MAYBE_TEXTS = ("user", "workspace", "session", "superseded_by")
_FIELDS = frozenset(field.name for field in fields(MemoryUnit))


def export(store: MemoryStore, *, agent: str | None = None) -> Iterator[str]:
    """Every unit, history included, as a line of JSON each, in the order of their coming."""
    last: str | None = None
    while page := store.after(last, limit=_PAGE, agent=agent):
        for unit in page:
            line = asdict(unit)
            if not unit.standing:
                del line["standing"]  # earlier versions refuse a field that they do not know
            yield json.dumps(line, ensure_ascii=False)
        last = page[-1].id


def read_lines(lines: Iterable[str]) -> list[MemoryUnit]:
    """The units in ``lines``. Raises ``InvalidRequestError`` that names the first line that is none."""
    units: list[MemoryUnit] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                units.append(unit_from(json.loads(line)))
            except (ValueError, InvalidRequestError) as error:
                raise InvalidRequestError(f"line {number} is not a memory: {error}; nothing was imported") from error
    return units


def is_copy(path: Path) -> bool:
    """Whether ``path`` is a copy of a store rather than lines of JSON. Raises ``OSError``."""
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def read_copy(path: Path) -> list[MemoryUnit]:
    """The units in a copy that ``backup`` made. Raises ``JournalError``, also for a file of something else."""
    with MemoryStore.open_reader(path) as store:
        units: list[MemoryUnit] = []
        while page := store.after(units[-1].id if units else None, limit=_PAGE):
            units += page
        return units


def given_to(agent: str, units: Iterable[MemoryUnit]) -> Iterator[MemoryUnit]:
    """``units`` as those of ``agent``, under ids that follow from theirs: given twice, they are there once."""
    for unit in units:
        later = unit.superseded_by and _id_for(agent, unit.superseded_by)
        yield replace(unit, agent=agent, id=_id_for(agent, unit.id), superseded_by=later)


def _id_for(agent: str, unit: str) -> str:
    return f"m-{hashlib.sha256(f'{agent}/{unit}'.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """How many units were new, and how many were left out because they hold a secret or were forgotten here."""

    num_new: int
    num_secret: int
    num_forgotten: int


def import_units(store: MemoryStore, units: Iterable[MemoryUnit], *, with_forgotten: bool = False) -> Imported:
    """Take ``units`` in as they are, their ids and history too."""
    num_new = num_secret = num_forgotten = 0
    with store.writing("import into"):
        for unit in units:
            if holds_secret(unit.text):
                num_secret += 1
            elif not with_forgotten and was_forgotten(store.connection, unit):
                num_forgotten += 1
            else:
                num_new += _is_inserted(store.connection, unit)
    return Imported(num_new=num_new, num_secret=num_secret, num_forgotten=num_forgotten)


def backup(store: MemoryStore, target: Path) -> None:
    """Copy the store as it is at one moment, beside whoever writes. Raises ``InvalidRequestError`` if ``target`` is."""
    if target.exists():
        raise InvalidRequestError(f"{target} exists; name a file that does not")
    partial = target.with_name(f".{target.name}.partial")
    with told("copy"):
        with closing(sqlite3.connect(partial)) as copy:
            partial.chmod(0o600)
            store.connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        partial.replace(target)


def note_copy(store: MemoryStore, path: Path, kind: Literal["backup", "export"], now: float) -> None:
    """Note that a copy was made, so that whoever forgets something is told of it."""
    with store.writing("note a copy of"):
        store.connection.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", (str(path.resolve()), kind, now))


def unit_from(value: object) -> MemoryUnit:
    """The unit that a JSON object describes. Raises ``InvalidRequestError`` that says what of it is wrong."""
    if not isinstance(value, dict):
        raise InvalidRequestError("it is no JSON object")
    given = cast(dict[str, Any], value)
    if unknown := sorted(given.keys() - _FIELDS):
        raise InvalidRequestError(f"{unknown[0]!r} is no field of a memory")
    for name, allowed in _ALLOWED.items():
        if name in given and given[name] not in allowed:
            raise InvalidRequestError(f"{name} is {given[name]!r}; it must be one of {', '.join(allowed)}")
    _check(given, _TEXTS, str, "a text")
    _check(given, _NUMBERS, (int, float), "a number")
    if not isinstance(given.get("standing", False), bool):
        raise InvalidRequestError(f"standing is {given['standing']!r}; it must be true or false")
    said = {name: value for name, value in given.items() if value is not None}
    _check(said, _MAYBE_TEXTS, str, "a text")
    _check(said, _MAYBE_NUMBERS, (int, float), "a number")
    for name in _TIMES:
        if name in said and not _YEARS[0] <= said[name] <= _YEARS[1]:  # recall tells the day of it to the model
            raise InvalidRequestError(f"{name} is {said[name]!r}; times are in seconds since 1970")
    turns = given.get("turns", [])
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in cast(list[object], turns)):
        raise InvalidRequestError("turns must be a list of turn ids")
    try:
        fields_given: dict[str, Any] = {**given, "turns": tuple(cast(list[str], turns))}
        return MemoryUnit(**fields_given)
    except TypeError as error:
        raise InvalidRequestError(str(error).partition("() ")[2] or str(error)) from error


def _is_inserted(connection: sqlite3.Connection, unit: MemoryUnit) -> bool:
    try:
        insert_unit(connection, unit)
    except sqlite3.IntegrityError:  # known by its id or by what it says
        return False
    return True


def _check(given: dict[str, Any], names: Iterable[str], kind: type | tuple[type, ...], what: str) -> None:
    for name in names:
        if name in given and (not isinstance(given[name], kind) or isinstance(given[name], bool)):
            raise InvalidRequestError(f"{name} must be {what}")
