"""Databases that somebody replaces while they are open: a backup is put back beside a running MetaClaw.

Owns noticing it and leaving the former file; refuses to know what is in either. Invariant: what was put back is what is
read from then on. SQLite goes by names, and would read the log of the former file into the one that is there now.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FileId = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The files of one connection, as they were when it was opened."""

    path: Path
    file: FileId | None
    log: FileId | None

    @classmethod
    def of(cls, path: Path) -> Place:
        """Of a connection to ``path`` that was opened a moment ago."""
        return cls(path=path, file=_file_id(path), log=_file_id(_beside(path, "-wal")))

    def is_here(self) -> bool:
        """Whether what is written can be found again: the file may be removed, or another one put there."""
        return self.file is not None and _file_id(self.path) == self.file

    def leave(self, connection: sqlite3.Connection) -> bool:
        """Close ``connection``, and take what it wrote beside the file away; false where somebody reads it just now.

        Raises ``sqlite3.Error``; the connection is open then, as it is where this is false.
        """
        # Into the former file: it may be this one after all, on a disk that numbers its files anew.
        (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            return False
        connection.close()
        log = _beside(self.path, "-wal")
        if self.log is not None and _file_id(log) == self.log:  # else somebody put back that as well
            with suppress(OSError):
                log.unlink()
                _beside(self.path, "-shm").unlink()
        return True


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _file_id(path: Path) -> FileId | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
