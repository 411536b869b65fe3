"""Whether the cloud is there at all.

Owns how long is waited for a cloud that says nothing; refuses to know what is asked of it. Invariant: while a cloud
answers, a call may take as long as it likes; when it does not, whoever waits is told within seconds, and so is whoever
comes in the seconds after.

The SDKs try a lost connection again for minutes, or for ever. A person waits for this answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from metaclaw.errors import BackendError, UpstreamError

T = TypeVar("T")
Ask = Callable[[], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often is looked, how long for, how often in vain, and how long a silent cloud is left alone."""

    look_every_s: float = 5.0
    look_s: float = 5.0
    max_misses: int = 2
    rest_s: float = 15.0


class Pulse:
    """``ask`` is something small that the cloud answers whenever it is there."""

    def __init__(self, where: str, ask: Ask, *, clock: Callable[[], float], patience: Patience | None = None) -> None:
        self._where = where
        self._ask = ask
        self._clock = clock
        self._patience = patience or Patience()
        self._looking: asyncio.Task[object] | None = None
        self._silent_until = 0.0

    async def during(self, call: Coroutine[Any, Any, T]) -> T:
        """What ``call`` returns. Raises ``UpstreamError`` (503) as soon as the cloud is known to be silent."""
        task = asyncio.ensure_future(call)
        misses = 0
        try:
            if self._clock() < self._silent_until:
                raise self._silent()
            while not task.done():
                await asyncio.wait({task}, timeout=self._patience.look_every_s)
                misses = 0 if task.done() or await self._answers() else misses + 1
                if misses == self._patience.max_misses:
                    self._silent_until = self._clock() + self._patience.rest_s
                    raise self._silent()
            return task.result()
        finally:
            task.cancel()

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(BackendError, asyncio.CancelledError):
                await self._looking

    async def _answers(self) -> bool:
        # One look at a time, whoever asks: an SDK that cannot be interrupted would pile them up.
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._ask())
        await asyncio.wait({self._looking}, timeout=self._patience.look_s)
        return self._looking.done() and not self._looking.cancelled() and self._looking.exception() is None

    def _silent(self) -> UpstreamError:
        return UpstreamError(
            f"the training cloud {self._where} does not answer", status=503, retry_after_s=self._patience.rest_s
        )
