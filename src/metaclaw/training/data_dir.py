"""The folder of a training server: one server at a time.

Owns the lock on it; refuses to know what lies there. Invariant: the lock ends with its server, however that ends. Two
servers on one folder would write over each other's adapters, and each would tidy away what the other has begun.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from metaclaw.errors import ProcessError
from metaclaw.locks import LockedError, exclusive_lock, is_locked

_LOCK_FILE = ".server.lock"


@contextmanager
def alone_in(data_dir: Path) -> Generator[None]:
    """Be the one training server on ``data_dir``. Raises ``ProcessError`` while another is, or if it cannot be used."""
    with ExitStack() as stack:
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(exclusive_lock(data_dir / _LOCK_FILE, wait=False))
        except LockedError as error:
            raise ProcessError(
                f"another training server runs on {data_dir}: stop it, or give this one its own train_server.data_dir"
            ) from error
        except OSError as error:
            raise ProcessError(f"{data_dir} cannot be used: {error.strerror}") from error
        yield


def is_in_use(data_dir: Path) -> bool:
    """Whether a training server runs on ``data_dir``."""
    return is_locked(data_dir / _LOCK_FILE)
