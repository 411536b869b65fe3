"""Files of other programs: read whole, replaced whole.

Owns bytes, permissions, links and what may not be touched; refuses to know what is in them. Invariant: a file has its
old content or its new one at every instant, with its owner, its mode and the link that leads to it; one that somebody
protected, or wrote to since it was read, is left alone.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from metaclaw.errors import WiringError

_MAX_BYTES = 8 * 1024 * 1024
_UNFINISHED = ".metaclaw-new"  # how a file ends that is not in its place yet


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
    folder = next(parent for parent in real.parents if is_there(parent))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WiringError(f"{path} cannot be written: you may not write into {folder}; nothing was changed")
    if not is_there(real):
        return
    facts = real.stat()
    if not facts.st_mode & 0o222:  # for root, `access` says yes to everything
        raise WiringError(f"{path} is read-only; if it is yours to change, `chmod u+w {real}`. Nothing was changed")
    if not os.access(real, os.W_OK) or (os.name == "posix" and os.geteuid() not in (0, facts.st_uid)):
        raise WiringError(f"{path} belongs to somebody else; nothing was changed")


def is_read_by_others(path: Path) -> bool:
    """Whether somebody else on this machine may read a file that is there. Windows keeps that elsewhere."""
    return os.name == "posix" and is_there(path) and bool(path.stat().st_mode & 0o044)


def is_there(path: Path) -> bool:
    """Whether something is at ``path``, as far as we may see."""
    try:
        return path.exists()
    except OSError:  # a folder that is not ours to look into, a name that is too long
        return False


def folders_to_make(path: Path) -> tuple[Path, ...]:
    """The folders that writing ``path`` would make, the innermost first."""
    return tuple(parent for parent in _real(path).parents if not is_there(parent))


def linked_elsewhere(path: Path) -> str | None:
    """What to know of a file that is a link, or that has another name; ``None`` for an ordinary one."""
    real = _real(path)
    if not is_there(real):
        return None
    repository = next((parent for parent in real.parents if is_there(parent / ".git")), None)
    if repository is not None and real != path:
        return f"{path} leads into the repository {repository}, and holds a token now: do not commit that"
    if real.stat().st_nlink > 1:
        return f"{path} has another name somewhere (a hard link): the file of that name stays as it is"
    return None


def write_file(path: Path, data: bytes, *, expected: bytes | None) -> None:
    """Replace what is in a file, which still has ``expected`` in it; missing folders are made."""
    real = _real(path)
    try:
        for folder in reversed(folders_to_make(path)):
            folder.mkdir(mode=0o700)
        _replace(real, path, data, expected)
    except OSError as error:
        raise WiringError(f"{path} cannot be written: {error.strerror}. It is as it was") from error


def remove_unfinished(path: Path) -> None:
    """Remove what a process left beside a file when it was killed before it could put it in its place."""
    real = _real(path)
    for left in real.parent.glob(f".{glob.escape(real.name)}.*{_UNFINISHED}"):
        left.unlink(missing_ok=True)


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
    handle, temporary = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.", suffix=_UNFINISHED)
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
