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
from typing import NoReturn

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
    """Whether a living process holds ``path``. Who asks is not taken for a holder by others who ask."""
    try:
        # For reading: a read-only disk has no holders, and whoever may not write can ask as well.
        handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        _look(handle)
    except LockedError:
        return True
    finally:
        os.close(handle)
    return False


def _look(handle: int) -> None:
    # Shared: of two who look at once neither may see the other. A killed instance would seem alive to the second,
    # and `metaclaw stop` would end whatever program has its process id by now.
    if sys.platform == "win32":
        _lock(handle, wait=False)  # it has no shared ones
    else:
        _flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _lock(handle: int, *, wait: bool) -> None:
    if sys.platform != "win32":
        _flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    try:
        # The locked byte lies far behind the content: on Windows a locked region cannot be read by others.
        os.lseek(handle, 1 << 30, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
    except OSError as error:
        _tell_held(error)


def _flock(handle: int, how: int) -> None:
    try:
        fcntl.flock(handle, how)
    except OSError as error:
        _tell_held(error)


def _tell_held(error: OSError) -> NoReturn:
    if error.errno in _HELD:
        raise LockedError from error
    raise error
