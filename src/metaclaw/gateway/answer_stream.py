"""A streamed answer on its way to the client.

Owns reading the model to the end and closing the turn; refuses to know dialects. Invariant: what a passage lets through
is passed on at once; and the turn is closed however the stream ends, before the client sees its end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.errors import UpstreamError
from metaclaw.gateway.passages import Outcome, Passage
from metaclaw.gateway.recording import TurnRecord
from metaclaw.http.errors import Dialect, error_answer
from metaclaw.journal.turns import EndState
from metaclaw.upstreams.model_client import Reply

CUT = "the client left, or the gateway stopped, before the answer was complete"
_BUG = "the gateway could not go on with the answer; its log has the details"
_REST_S = 1.0  # what follows a finish reason is ready: usage, the policy record


class AnswerStream:
    """Iterate once, then ``aclose``. ``on_answer`` is told of an answer that is complete, if the passage read it."""

    def __init__(
        self,
        reply: Reply,
        passage: Passage,
        record: TurnRecord,
        *,
        errors: Dialect,
        on_answer: Callable[[ChatAnswer], None] | None = None,
    ) -> None:
        self._reply = reply
        self._passage = passage
        self._record = record
        self._errors: Dialect = errors
        self._on_answer = on_answer

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        passage = self._passage
        try:
            last = b""
            async for chunk in self._reply.chunks():
                last = passage.feed(chunk)
                if passage.has_end:
                    break
                if last:
                    yield last
                    last = b""
            last += passage.finish()
            outcome = passage.outcome()
            if not outcome.is_done and outcome.error is None:
                raise UpstreamError("upstream error: the model's answer ended in the middle", status=502)
        except UpstreamError as error:
            self._close("failed", passage.outcome(), str(error))
            yield passage.fail(error_answer(error, self._errors).body)
            return
        except Exception:
            self._record.close("failed", status=200, error=_BUG)
            raise
        # Recorded first: a client that has seen the end may rely on the turn being there.
        self._close_complete(outcome)
        yield last
        await self._reply.finish()

    async def aclose(self) -> None:
        """Cut the upstream off if it still talks, and close the turn if nothing else did."""
        if self._record.is_closed:
            self._reply.close()
            return
        try:
            await self._end()
        finally:
            self._record.close("failed", status=200, error=_BUG)  # nothing, if it ended as it should

    async def _end(self) -> None:
        try:
            # Some clients stop reading at the finish reason: they have their answer, and the turn is complete.
            if self._passage.outcome().is_done:
                await self._read_rest()
        finally:
            self._reply.close()
            outcome = self._passage.outcome()
            if outcome.is_done:
                self._close_complete(outcome)
            else:
                self._close("cut", outcome, CUT)

    async def _read_rest(self) -> None:
        with contextlib.suppress(TimeoutError, UpstreamError):
            async with asyncio.timeout(_REST_S), contextlib.aclosing(self._reply.chunks()) as chunks:
                async for chunk in chunks:
                    self._passage.feed(chunk)
                    if self._passage.has_end:
                        return
                self._passage.finish()

    def _close_complete(self, outcome: Outcome) -> None:
        if outcome.error is None:
            if self._on_answer is not None and outcome.answer is not None:
                self._on_answer(outcome.answer)
            self._record.close("done", outcome.answer, raw=outcome.raw, status=200)
        else:
            self._close("failed", outcome, str(outcome.error.get("message", outcome.error)))

    def _close(self, state: EndState, outcome: Outcome, error: str) -> None:
        self._record.close(state, outcome.answer, raw=outcome.raw, status=200, error=error)
