"""The boundary between a turn and its record.

Owns what happens when recording fails; refuses to know what is recorded. Invariant: whatever fails in here is counted,
and logged unless its like was a moment ago, and the client's answer goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
_QUIET_S = 10.0

_log = logging.getLogger(__name__)


class RecordingPath:
    """Runs what records; ``num_failures`` says how often that did not work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.num_failures = 0
        self._clock = clock
        self._logged_at: dict[str, float] = {}  # by the error's type

    async def attempt(self, what: str, work: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """``work``, or ``otherwise`` when it fails."""
        try:
            return await work()
        except Exception as error:  # noqa: BLE001 - the recording path: counted and logged, never the client's trouble
            self.failed(what, error)
            return otherwise

    def run(self, what: str, turn_id: str, work: Callable[..., None], *arguments: object) -> None:
        """Do ``work``; what fails in it is counted and logged, as ``what`` of the turn."""
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - the recording path: counted and logged, never the client's trouble
            self.failed(f"{what} {turn_id}", error)

    def failed(self, what: str, error: Exception) -> None:
        self.num_failures += 1
        kind, now = type(error).__name__, self._clock()
        if now - self._logged_at.get(kind, -_QUIET_S) >= _QUIET_S:  # on a full disk every turn would add to the log
            self._logged_at[kind] = now
            _log.error("could not %s (%d failures so far)", what, self.num_failures, exc_info=error)
