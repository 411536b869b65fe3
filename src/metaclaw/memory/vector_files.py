"""Where the vectors of units lie.

Owns the files beside the store and the tables that say which row is whose; refuses to know what a vector means, and
numpy. Invariants: a row is written before the tables tell of it, in one transaction, and never given to another unit;
what is forgotten is overwritten before it is forgotten; and no file ever gets shorter, for readers have it mapped.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import JournalError

HEADER_BYTES = 4096
FLOAT_BYTES = 4
_SUFFIX = ".f32"
_COLUMNS = "id, agent, model, width, name, num_rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorFile:
    """The vectors that ``model`` made of an agent's units: ``num_rows`` rows of ``width`` float32."""

    id: int
    agent: str
    model: str
    width: int
    path: Path
    num_rows: int

    @property
    def row_bytes(self) -> int:
        return self.width * FLOAT_BYTES

    @property
    def is_whole(self) -> bool:
        """Whether the file has what the tables say it has."""
        try:
            return self.path.stat().st_size >= HEADER_BYTES + self.num_rows * self.row_bytes
        except OSError:
            return False


def vector_files(connection: sqlite3.Connection) -> list[VectorFile]:
    """All that there are."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM vector_files ORDER BY id").fetchall()
    return [_file_of(row, folder_of(connection)) for row in rows]


def file_for(connection: sqlite3.Connection, agent: str, model: str) -> VectorFile | None:
    """Where the vectors that ``model`` made for ``agent`` are, if there are any."""
    query = f"SELECT {_COLUMNS} FROM vector_files WHERE agent = ? AND model = ?"
    row = connection.execute(query, (agent, model)).fetchone()
    return None if row is None else _file_of(row, folder_of(connection))


def folder_of(connection: sqlite3.Connection) -> Path:
    """The folder of the files."""
    (name,) = (row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main")
    return Path(name).parent / "vectors"


def without_vector(connection: sqlite3.Connection, model: str, limit: int | None) -> dict[str, str]:
    """Texts by id of units of which ``model`` has made no vector, the newest of an agent first."""
    found: dict[str, str] = {}
    for (agent,) in connection.execute("SELECT DISTINCT agent FROM units ORDER BY agent").fetchall():
        file = file_for(connection, agent, model)
        rows = connection.execute(
            "SELECT id, text FROM units WHERE agent = ? AND NOT EXISTS"
            " (SELECT 1 FROM vectors WHERE unit = units.seq AND file = ?) ORDER BY seq DESC LIMIT ?",
            (agent, -1 if file is None else file.id, -1 if limit is None else limit - len(found)),
        ).fetchall()
        found |= dict(rows)
        if limit is not None and len(found) >= limit:
            break
    return found


def write_vectors(connection: sqlite3.Connection, model: str, width: int, vectors: Mapping[str, bytes]) -> int:
    """Within a transaction, keep ``vectors`` by the id of their unit; how many were kept.

    Units that were forgotten meanwhile, and those that have a vector, are passed over. Raises ``JournalError``.
    """
    ids = json.dumps(list(vectors))
    agents = connection.execute(
        "SELECT DISTINCT agent FROM units WHERE id IN (SELECT value FROM json_each(?))", (ids,)
    ).fetchall()
    number = 0
    for (agent,) in agents:
        file = _made(connection, agent, model, width)
        rows = connection.execute(
            "SELECT seq, id FROM units WHERE agent = ? AND id IN (SELECT value FROM json_each(?)) AND NOT EXISTS"
            " (SELECT 1 FROM vectors WHERE unit = units.seq AND file = ?) ORDER BY seq",
            (agent, ids, file.id),
        ).fetchall()
        _write(file, file.num_rows, b"".join(vectors[unit] for _, unit in rows))
        connection.executemany(
            "INSERT INTO vectors VALUES (?, ?, ?)",
            [(file.id, file.num_rows + place, seq) for place, (seq, _) in enumerate(rows)],
        )
        connection.execute("UPDATE vector_files SET num_rows = num_rows + ? WHERE id = ?", (len(rows), file.id))
        number += len(rows)
    return number


def erase_vectors(connection: sqlite3.Connection, units: Collection[int]) -> None:
    """Within a transaction, overwrite the vectors of ``units`` (by ``seq``), and what no table tells of.

    Raises ``JournalError`` when a file cannot be written; then the transaction must not be committed.
    """
    chosen = json.dumps(list(units))
    for file in vector_files(connection):
        if not file.path.exists():
            continue
        rows = connection.execute(
            "SELECT row FROM vectors WHERE file = ? AND unit IN (SELECT value FROM json_each(?))", (file.id, chosen)
        ).fetchall()
        for (row,) in rows:
            _write(file, row, bytes(file.row_bytes))
        # A writer that was killed may have left rows of what is forgotten now.
        left = file.path.stat().st_size - HEADER_BYTES - file.num_rows * file.row_bytes
        _write(file, file.num_rows, bytes(max(0, left)))
    connection.execute("DELETE FROM vectors WHERE unit IN (SELECT value FROM json_each(?))", (chosen,))
    sweep(connection)


def drop_broken(connection: sqlite3.Connection) -> None:
    """Within a transaction, let go of files that are not as the tables say: their vectors are made anew."""
    for file in vector_files(connection):
        if not file.is_whole:
            _drop(connection, file)
    sweep(connection)


def drop_others(connection: sqlite3.Connection, model: str) -> None:
    """Within a transaction, let go of what other models than ``model`` made."""
    for file in vector_files(connection):
        if file.model != model:
            _drop(connection, file)
    sweep(connection)


def num_stray_rows(connection: sqlite3.Connection) -> int:
    """How many rows hold something and are no unit's, files that nobody knows included. `erase_vectors` clears them."""
    number = len(unknown_files(connection))
    for file in vector_files(connection):
        if not file.path.exists():
            continue
        rows = connection.execute("SELECT row FROM vectors WHERE file = ?", (file.id,)).fetchall()
        known = {row for (row,) in rows}
        with file.path.open("rb") as content:
            size = content.seek(0, os.SEEK_END) - HEADER_BYTES
            for row in range(-(-size // file.row_bytes)):
                if row not in known:
                    content.seek(HEADER_BYTES + row * file.row_bytes)
                    number += any(content.read(file.row_bytes))
    return number


def sweep(connection: sqlite3.Connection) -> None:
    """Within a transaction, so that nobody makes one meanwhile: remove the files that no table tells of."""
    for path in unknown_files(connection):
        path.unlink(missing_ok=True)


def unknown_files(connection: sqlite3.Connection) -> list[Path]:
    """Files that no table tells of: left by a process that was killed, or of what was let go."""
    known = {file.path for file in vector_files(connection)}
    return [path for path in folder_of(connection).glob(f"*{_SUFFIX}") if path not in known]


def _drop(connection: sqlite3.Connection, file: VectorFile) -> None:
    connection.execute("DELETE FROM vectors WHERE file = ?", (file.id,))
    connection.execute("DELETE FROM vector_files WHERE id = ?", (file.id,))


def _file_of(row: tuple[int, str, str, int, str, int], folder: Path) -> VectorFile:
    number, agent, model, width, name, num_rows = row
    return VectorFile(id=number, agent=agent, model=model, width=width, path=folder / name, num_rows=num_rows)


def _made(connection: sqlite3.Connection, agent: str, model: str, width: int) -> VectorFile:
    """The file for vectors of ``width``; one that is of another width or not whole makes way."""
    file = file_for(connection, agent, model)
    if file is not None and (file.width != width or not file.is_whole):
        _drop(connection, file)
        file = None
    if file is not None:
        return file
    name = secrets.token_hex(12) + _SUFFIX
    path = folder_of(connection) / name
    try:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as made:
            about = json.dumps({"metaclaw": "vectors", "model": model[:1000], "width": width, "type": "float32"})
            made.write(about.encode().ljust(HEADER_BYTES, b"\0"))
    except OSError as error:
        raise JournalError(f"cannot make {path}: {error.strerror}. Nothing in the memory was changed.") from error
    connection.execute(
        "INSERT INTO vector_files (agent, model, width, name) VALUES (?, ?, ?, ?)", (agent, model, width, name)
    )
    made_file = file_for(connection, agent, model)
    assert made_file is not None
    return made_file


def _write(file: VectorFile, row: int, content: bytes) -> None:
    if not content:
        return
    try:
        handle = os.open(file.path, os.O_WRONLY)
        try:
            at = HEADER_BYTES + row * file.row_bytes
            while content:
                done = os.pwrite(handle, content, at)
                content, at = content[done:], at + done
        finally:
            os.close(handle)
    except OSError as error:
        raise JournalError(f"cannot write {file.path}: {error.strerror}. Nothing in the memory was changed.") from error
