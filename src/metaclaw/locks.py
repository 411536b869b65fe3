"""Locks between processes: one holder of a file at a time.

Owns the operating system's file locks; refuses to know what is protected. Invariant: a lock dies with its holder,
however that ends, so a stale one cannot exist.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from metaclaw.private_folders import make_private

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


# Windows says EACCES, and EDEADLK after ten seconds of waiting. Anything else (no locks on this file system, no room)
# is a fault, and no other process's doing.
_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)


class LockedError(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def exclusive_lock(path: Path, *, wait: bool) -> Generator[int]:
    """Hold ``path`` (made when missing, never removed) and yield its descriptor.

    With ``wait`` false, raises ``LockedError`` at once when another process holds it; ``OSError`` when it cannot be
    locked at all.
    """
    make_private(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(handle, wait=wait)
        yield handle
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a living process holds ``path``."""
    if not path.exists():
        return False
    try:
        with exclusive_lock(path, wait=False):
            return False
    except LockedError:
        return True
    except OSError as error:
        if error.errno == errno.EROFS:  # who holds it could write it
            return False
        raise


def _lock(handle: int, *, wait: bool) -> None:
    try:
        if sys.platform == "win32":
            # The locked byte lies far behind the content: on Windows a locked region cannot be read by others.
            os.lseek(handle, 1 << 30, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise LockedError from error
        raise
