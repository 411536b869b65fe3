"""The beginning of a turn's record, in the time of its model.

Owns when it is found out who calls and when the turn is recorded as open: who calls before the model is asked where
that depends on it, all else while the model works; refuses to know what is recorded and who answers. Invariant: each is
done once, and both before anything of an answer is passed on or the turn is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from metaclaw.gateway.identify import Caller, Sender


class Opening:
    """``record`` is called once with the caller; ``sender`` is asked for the caller once."""

    def __init__(self, sender: Sender, record: Callable[[Caller], None]) -> None:
        self._sender = sender
        self._record: Callable[[Caller], None] | None = record
        self._is_begun = False
        self._asking: asyncio.Task[Caller] | None = None
        self.caller: Caller | None = None

    async def identify(self) -> Caller:
        """Who calls, now."""
        self._begin()
        if self._asking is not None:
            self.caller = await asyncio.shield(self._asking)  # whoever waits may be cancelled, and ask again
        assert self.caller is not None
        return self.caller

    def soon(self) -> None:
        """Do the rest once the loop has written what is sent in this step."""
        asyncio.get_running_loop().call_soon(self._work)

    async def done(self) -> Caller:
        """Do what is not done yet."""
        caller = self.caller or await self.identify()
        self._write(caller)
        return caller

    def _work(self) -> None:
        self._begin()
        if self.caller is not None:
            self._write(self.caller)
        elif self._asking is not None:
            self._asking.add_done_callback(self._asked)

    def _begin(self) -> None:
        if self._is_begun:
            return
        found = self._sender.caller()
        self._is_begun = True
        if isinstance(found, Caller):
            self.caller = found
        else:
            self._asking = asyncio.ensure_future(found)

    def _asked(self, asking: asyncio.Task[Caller]) -> None:
        if not asking.cancelled() and asking.exception() is None:
            self._write(asking.result())

    def _write(self, caller: Caller) -> None:
        # Let go of at once: it is a method of the turn that has this, and a cycle keeps the whole request until garbage
        # is collected, which was every 280 turns.
        record, self._record = self._record, None
        if record is not None:
            record(caller)
