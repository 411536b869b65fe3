"""Whether a training server or a training cloud is there at all.

Owns how long is waited for one that says nothing; refuses to know what is asked of it. Invariant: while it answers, a
call may take as long as it likes; when it does not, whoever waits is told within seconds, and so is whoever comes in
the seconds after.

An answer of the policy may take minutes, and a machine that is asleep, stopped or unplugged refuses nothing. A person
waits for this answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from metaclaw.deadlines import Later
from metaclaw.errors import BackendError, UpstreamError

T = TypeVar("T")
Ask = Callable[[], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often is looked, how long for, how often in vain, and how long a silent one is left alone."""

    look_every_s: float = 5.0
    look_s: float = 5.0
    max_misses: int = 2
    rest_s: float = 15.0


class Pulse:
    """``ask`` is something small that is answered whenever anybody is ``where``, which names it in errors."""

    def __init__(self, where: str, ask: Ask, *, clock: Callable[[], float], patience: Patience | None = None) -> None:
        self._where = where
        self._ask = ask
        self._clock = clock
        self._patience = patience or Patience()
        self._looking: asyncio.Task[object] | None = None
        self._silent_until = 0.0

    async def during(self, call: Awaitable[T]) -> T:
        """What ``call`` returns. Raises ``UpstreamError`` (503) as soon as it is known that nobody is there."""
        if self._clock() < self._silent_until:
            if asyncio.iscoroutine(call):
                call.close()
            raise self._silent()
        began_at, limit = self._clock(), asyncio.timeout(None)
        looks: list[asyncio.Task[None]] = []
        # Most answers have begun before anybody need look.
        timer = Later(self._patience.look_every_s, lambda: looks.append(asyncio.ensure_future(self._watch(limit))))
        try:
            async with limit:
                try:
                    return await call
                finally:
                    timer.cancel()
                    for watching in looks:
                        watching.cancel()
        except TimeoutError:
            if not limit.expired():
                raise
            self._rest()
            raise self._silent() from None
        except UpstreamError as error:
            # Whoever comes next would wait as long for the same connection.
            if error.status is None and self._clock() - began_at >= self._patience.look_every_s:
                self._rest()
            raise

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(BackendError, UpstreamError, asyncio.CancelledError):
                await self._looking

    async def _watch(self, limit: asyncio.Timeout) -> None:
        misses = 0
        while True:
            misses = 0 if await self._answers() else misses + 1
            if misses == self._patience.max_misses:
                limit.reschedule(asyncio.get_running_loop().time())
                return
            await asyncio.sleep(self._patience.look_every_s)

    async def _answers(self) -> bool:
        # One look at a time, whoever asks: an SDK that cannot be interrupted would pile them up.
        looking = self._looking
        if looking is None or looking.done():
            looking = self._looking = asyncio.ensure_future(self._ask())
            looking.add_done_callback(_seen)
        await asyncio.wait({looking}, timeout=self._patience.look_s)
        return looking.done() and not looking.cancelled() and looking.exception() is None

    def _rest(self) -> None:
        self._silent_until = self._clock() + self._patience.rest_s

    def _silent(self) -> UpstreamError:
        return UpstreamError(f"{self._where} does not answer", status=503, retry_after_s=self._patience.rest_s)


def _seen(looking: asyncio.Task[object]) -> None:
    if not looking.cancelled():
        looking.exception()  # whoever looked may have gone meanwhile
