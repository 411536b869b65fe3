"""A streamed answer on its way to the client.

Owns passing events on as they come, taking the policy record out, and folding them for the journal; refuses to know
where they come from. Invariant: an event is passed on as soon as it is understood, its bytes unchanged unless it holds
the policy record; and the turn is closed however the stream ends, before the client sees its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator

from metaclaw.chat.openai_chat import object_or_none
from metaclaw.chat.sse import DONE, SseEvent, SseParser
from metaclaw.chat.stream_assembler import StreamAssembler
from metaclaw.errors import UpstreamError
from metaclaw.gateway.recording import TurnRecord
from metaclaw.http.errors import error_answer
from metaclaw.http.sse import encode_event
from metaclaw.upstreams.openai_compatible import UpstreamReply

CUT = "the client left, or the gateway stopped, before the answer was complete"
_POLICY_RECORD = b'"policy_record"'
_REST_S = 1.0  # what follows a finish reason is ready: usage, the policy record


class AnswerStream:
    """Iterate once, then ``aclose``."""

    def __init__(self, reply: UpstreamReply, record: TurnRecord, *, is_policy: bool) -> None:
        self._reply = reply
        self._record = record
        self._is_policy = is_policy
        self._parser = SseParser()
        self._assembler = StreamAssembler()

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        try:
            async for chunk in self._reply.chunks():
                events = self._understood(self._parser.feed(chunk))
                if _has_end(events):
                    break
                yield self._passed(events)
            else:
                events = self._understood(self._parser.finish())
            if not self._assembler.is_done and self._assembler.error is None:
                raise UpstreamError("the model's answer ended in the middle", status=502)
        except UpstreamError as error:
            await self._record.close("failed", self._assembler.answer(), status=200, error=str(error))
            yield encode_event(json.dumps(error_answer(error, "openai").body))
            return
        # Recorded first: a client that has seen the end may rely on the turn being there.
        await self._close_complete()
        yield self._passed(events)
        await self._reply.finish()

    async def aclose(self) -> None:
        """Cut the upstream off if it still talks, and close the turn if nothing else did."""
        try:
            # Some clients stop reading at the finish reason: they have their answer, and the turn is complete.
            if self._assembler.is_done and not self._record.is_closed:
                await self._read_rest()
        finally:
            self._reply.close()
            if self._assembler.is_done:
                await self._close_complete()
            else:
                await self._record.close("cut", self._assembler.answer(), status=200, error=CUT)

    async def _read_rest(self) -> None:
        with contextlib.suppress(TimeoutError, UpstreamError):
            async with asyncio.timeout(_REST_S), contextlib.aclosing(self._reply.chunks()) as chunks:
                async for chunk in chunks:
                    if _has_end(self._understood(self._parser.feed(chunk))):
                        return
                self._understood(self._parser.finish())

    async def _close_complete(self) -> None:
        error = self._assembler.error
        if error is None:
            await self._record.close("done", self._assembler.answer(), status=200)
        else:
            await self._record.close(
                "failed", self._assembler.answer(), status=200, error=str(error.get("message", error))
            )

    def _passed(self, events: list[SseEvent]) -> bytes:
        if not self._is_policy:
            return b"".join(event.raw for event in events)
        return b"".join(_without_policy_record(event) for event in events)

    def _understood(self, events: list[SseEvent]) -> list[SseEvent]:
        for event in events:
            self._assembler.add_event(event)
        return events


def _has_end(events: list[SseEvent]) -> bool:
    return any(event.data == DONE for event in events)


def _without_policy_record(event: SseEvent) -> bytes:
    if _POLICY_RECORD not in event.raw or event.data is None:
        return event.raw
    try:
        chunk = object_or_none(json.loads(event.data))
    except ValueError:
        return event.raw
    if chunk is None or "policy_record" not in chunk:
        return event.raw  # the words are part of the answer
    del chunk["policy_record"]
    is_empty = not chunk.get("choices") and not chunk.get("usage")
    return b"" if is_empty else encode_event(json.dumps(chunk, separators=(",", ":")))
