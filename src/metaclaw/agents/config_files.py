"""Files of other programs: read whole, replaced whole.

Owns bytes, permissions, links and what may not be touched; refuses to know what is in them. Invariant: a file has its
old content or its new one at every instant, with its owner, its mode and the link that leads to it; one that somebody
protected, or wrote to since it was read, is left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from metaclaw.errors import WiringError

_MAX_BYTES = 8 * 1024 * 1024


def read_file(path: Path) -> bytes | None:
    """What is in a file; ``None`` when there is none. Raises ``WiringError`` for what could not be edited."""
    real = _real(path)
    try:
        facts = real.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise WiringError(f"{path} is a link to {real}, which does not exist; nothing was changed") from None
        return None
    except OSError as error:
        raise WiringError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise WiringError(f"{path} is no file")
    if facts.st_size > _MAX_BYTES:
        raise WiringError(f"{path} has {facts.st_size} bytes, which no configuration has; nothing was changed")
    try:
        return real.read_bytes()
    except OSError as error:
        raise WiringError(f"{path} cannot be read: {error.strerror}") from error


def require_writable(path: Path) -> None:
    """Raise ``WiringError`` when ``path`` could not be replaced, or was made read-only by somebody."""
    real = _real(path)
    folder = next(parent for parent in real.parents if parent.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WiringError(f"{path} cannot be written: you may not write into {folder}; nothing was changed")
    if not real.exists():
        return
    facts = real.stat()
    if not facts.st_mode & 0o222:  # for root, `access` says yes to everything
        raise WiringError(f"{path} is read-only; if it is yours to change, `chmod u+w {real}`. Nothing was changed")
    if not os.access(real, os.W_OK) or (os.name == "posix" and os.geteuid() not in (0, facts.st_uid)):
        raise WiringError(f"{path} belongs to somebody else; nothing was changed")


def is_read_by_others(path: Path) -> bool:
    """Whether somebody else on this machine may read a file that is there. Windows keeps that elsewhere."""
    return os.name == "posix" and path.exists() and bool(path.stat().st_mode & 0o044)


def write_file(path: Path, data: bytes, *, expected: bytes | None) -> list[Path]:
    """Replace what is in a file, which still has ``expected`` in it; returns the folders that were made for it."""
    real = _real(path)
    made = [parent for parent in real.parents if not parent.exists()]
    try:
        for folder in reversed(made):
            folder.mkdir(mode=0o700)
        _replace(real, path, data, expected)
    except OSError as error:
        raise WiringError(f"{path} cannot be written: {error.strerror}. It is as it was") from error
    return made


def remove_file(path: Path, *, expected: bytes) -> None:
    """Remove a file that still has ``expected`` in it."""
    if read_file(path) != expected:
        raise WiringError(f"{path} was changed by somebody in this moment; run the command again")
    _real(path).unlink()


def write_private(path: Path, data: bytes) -> None:
    """A file of our own, for its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mkstemp makes it 0600
    _fill(handle, data)
    Path(temporary).replace(path)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise WiringError(f"{path} is a link that leads nowhere: {error}; nothing was changed") from None


def _replace(real: Path, path: Path, data: bytes, expected: bytes | None) -> None:
    handle, temporary = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
    try:
        _fill(handle, data)
        if real.exists():
            facts = real.stat()
            Path(temporary).chmod(stat.S_IMODE(facts.st_mode))
            if os.name == "posix" and (facts.st_uid, facts.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(PermissionError):  # a group that we are not in; the owner was looked at
                    os.chown(temporary, facts.st_uid, facts.st_gid)
        if read_file(path) != expected:
            raise WiringError(f"{path} was changed by somebody in this moment; run the command again")
        Path(temporary).replace(real)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _fill(handle: int, data: bytes) -> None:
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
