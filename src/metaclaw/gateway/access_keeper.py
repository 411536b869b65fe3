"""The tokens of ``access.db`` in memory, and the usage that goes back to it.

Owns the one thread that touches the file while the gateway runs; refuses to know who is let in and what a limit is.
Invariant: nobody waits for the file on the event loop; a token that was revoked is gone from memory after ``POLL_S`` at
the latest, as long as the file can be read, and what was known before stays known while it cannot; and the file is the
one that is there now, which ``metaclaw tokens`` writes.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

from metaclaw.errors import JournalError
from metaclaw.journal.access_store import AccessStore, AccessToken, Usage

POLL_S = 0.25

ReadUsage = Callable[[], Usage]

_log = logging.getLogger(__name__)


class AccessKeeper:
    """Use as ``async with AccessKeeper(path) as keeper``. Entering raises ``JournalError``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wakes: queue.SimpleQueue[Future[None] | None] = queue.SimpleQueue()
        self._changed: queue.SimpleQueue[tuple[str, ReadUsage]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="access-keeper", daemon=True)
        self._kept: dict[str, ReadUsage] = {}
        self._unsaved: dict[str, ReadUsage] = {}
        self._is_open = False
        self._version = -1
        self.tokens: Mapping[bytes, AccessToken] = {}  # by digest; replaced whole
        self.used: Mapping[str, Usage] = {}  # by the token's id, as it was when this began
        self.num_failures = 0

    async def __aenter__(self) -> AccessKeeper:
        await asyncio.to_thread(self._open)
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._wakes.put(None)
        await asyncio.to_thread(self._thread.join)
        self._store.close()

    async def refresh(self) -> None:
        """Return when ``tokens`` is what the file says now, as far as it can be read."""
        if self._thread.is_alive():
            future: Future[None] = Future()
            self._wakes.put(future)
            await asyncio.wrap_future(future)

    def keep(self, token_id: str, read: ReadUsage) -> None:
        """Write what ``read`` says soon, and when the gateway ends. It is called on the keeper's thread."""
        self._changed.put((token_id, read))

    def _open(self) -> None:
        self._store = AccessStore.open(self._path)
        self._is_open = True
        self._version = self._store.version()
        self.tokens, self.used = self._store.in_use(), self._store.usage()

    def _run(self) -> None:
        is_last, in_a_row = False, 0
        while not is_last:
            waiting, is_last = self._wait()
            try:
                self._follow()
                self._save()
                self._reload()
                in_a_row = 0
            except JournalError as error:
                self.num_failures += 1
                in_a_row += 1
                if in_a_row.bit_count() == 1:  # the 1st, 2nd, 4th, 8th: it is tried four times a second
                    _log.warning("%s (%d failures so far)", error, self.num_failures)
            finally:
                for future in waiting:
                    if future.set_running_or_notify_cancel():
                        future.set_result(None)

    def _wait(self) -> tuple[list[Future[None]], bool]:
        waiting: list[Future[None]] = []
        try:
            wake = self._wakes.get(timeout=POLL_S)
            while wake is not None:
                waiting.append(wake)
                wake = self._wakes.get_nowait()
        except queue.Empty:
            return waiting, False
        return waiting, True

    def _follow(self) -> None:
        """Open the file that is there now: somebody may have removed the one of before, or put back another."""
        if self._is_open and self._store.is_left():
            self._is_open = False
            _log.warning("%s is not the file that it was; the tokens of the new one count", self._path)
        if not self._is_open:
            self._store = AccessStore.open(self._path)
            self._is_open, self._version = True, -1
            self._unsaved = dict(self._kept)

    def _save(self) -> None:
        while not self._changed.empty():
            token_id, read = self._changed.get()
            self._unsaved[token_id] = self._kept[token_id] = read
        if self._unsaved:
            self._store.save_usage({token_id: read() for token_id, read in self._unsaved.items()})
            self._unsaved = {}

    def _reload(self) -> None:
        version = self._store.version()
        if version != self._version:
            self.tokens = self._store.in_use()
            self._version = version
