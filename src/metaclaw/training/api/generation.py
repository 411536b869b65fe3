"""The flow of one request to the OpenAI endpoint, from its commands to an answer, whole or streamed.

Owns admission, the order of events and the end of everything; refuses to know dialects. Invariant: an error that is
known before the first token has a status of its own; a later one is an event inside the stream; and when the client
leaves, every generation of its request stops.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive

from metaclaw.chat.sse import DONE, encode_event
from metaclaw.errors import MetaClawError
from metaclaw.http.errors import error_answer
from metaclaw.http.sse import ClientLeftError, ForwardingResponse, unless_client_leaves
from metaclaw.training.api.admission import Ticket
from metaclaw.training.api.sampling import Event
from metaclaw.training.commands import Generate

_CLIENT_LEFT = 499  # for the access log; there is nobody who would read it

NumberedEvent = tuple[int, Event]  # of which command, and what


class Answer(Protocol):
    """What is made of the events."""

    @property
    def commands(self) -> Sequence[Generate]: ...

    def take(self, part: int, event: Event) -> list[dict[str, Any]]:
        """Add an event of command number ``part``; return the stream's chunks for it."""
        ...

    def whole(self) -> dict[str, Any]: ...

    def last_chunk(self) -> dict[str, Any] | None: ...


async def respond(
    receive: Receive,
    admit: Callable[[Generate], Ticket],
    answer: Answer,
    stream: Callable[[Generate], AsyncGenerator[Event]],
    *,
    is_stream: bool,
    headers: Mapping[str, str],
) -> Response:
    """Generate what ``answer`` asks for, and send it."""
    generation = _Generation(_admitted(answer.commands, admit), [stream(command) for command in answer.commands])
    if is_stream:
        return await _streamed(receive, generation, answer, headers)
    return await _whole(receive, generation, answer, headers)


class _Generation:
    """The generations of one request. Admitted at once; closed whatever happens."""

    def __init__(self, tickets: Sequence[Ticket], streams: Sequence[AsyncGenerator[Event]]) -> None:
        self._tickets = tickets
        self._streams = streams
        self.events = streams_merged(streams)

    async def close(self) -> None:
        await self.events.aclose()
        for stream in self._streams:
            await stream.aclose()
        for ticket in self._tickets:
            ticket.release()


def _admitted(commands: Sequence[Generate], admit: Callable[[Generate], Ticket]) -> list[Ticket]:
    tickets: list[Ticket] = []
    try:
        for command in commands:
            tickets.append(admit(command))
    except MetaClawError:
        for ticket in tickets:
            ticket.release()
        raise
    return tickets


async def streams_merged(streams: Sequence[AsyncGenerator[Event]]) -> AsyncGenerator[NumberedEvent]:
    """The events of all ``streams`` as they come. The first failure ends them all."""
    if len(streams) == 1:
        async for event in streams[0]:
            yield 0, event
        return
    pending = {asyncio.ensure_future(_next(stream)): number for number, stream in enumerate(streams)}
    try:
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                number = pending.pop(task)
                event = task.result()
                if event is not None:
                    pending[asyncio.ensure_future(_next(streams[number]))] = number
                    yield number, event
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _next(stream: AsyncGenerator[Event]) -> Event | None:
    return await anext(stream, None)


class _ClosingChunks:
    """The chunks of a stream. Closing them ends the generation, also when no chunk was ever asked for."""

    def __init__(self, chunks: AsyncGenerator[bytes], generation: _Generation) -> None:
        self._chunks = chunks
        self._generation = generation

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def aclose(self) -> None:
        await self._chunks.aclose()
        await self._generation.close()


async def _whole(receive: Receive, generation: _Generation, answer: Answer, headers: Mapping[str, str]) -> Response:
    try:
        await unless_client_leaves(receive, _collect(generation.events, answer))
    except ClientLeftError:
        return Response(status_code=_CLIENT_LEFT)
    finally:
        await generation.close()
    # In a thread: log-probs of a long answer are megabytes, and others' streams would stand still meanwhile.
    body = await asyncio.to_thread(lambda: json.dumps(answer.whole(), separators=(",", ":")).encode())
    return Response(body, media_type="application/json", headers=dict(headers))


async def _collect(events: AsyncGenerator[NumberedEvent], answer: Answer) -> None:
    async for part, event in events:
        answer.take(part, event)


async def _streamed(receive: Receive, generation: _Generation, answer: Answer, headers: Mapping[str, str]) -> Response:
    try:
        # Whatever refuses the request does so before the first token: until then it can be a status.
        first = await unless_client_leaves(receive, anext(generation.events))
    except ClientLeftError:
        await generation.close()
        return Response(status_code=_CLIENT_LEFT)
    except BaseException:
        await generation.close()
        raise
    return ForwardingResponse(_ClosingChunks(_chunks(first, generation.events, answer), generation), headers=headers)


async def _chunks(first: NumberedEvent, events: AsyncGenerator[NumberedEvent], answer: Answer) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(_with_first(first, events)) as all_events:
            async for part, event in all_events:
                chunks = answer.take(part, event)
                if chunks:
                    yield b"".join(encode_event(json.dumps(chunk)) for chunk in chunks)
        last = await asyncio.to_thread(_encoded_last, answer)
        if last:
            yield last
        yield encode_event(DONE)
    except MetaClawError as error:
        yield encode_event(json.dumps(error_answer(error, "openai").body))


def _encoded_last(answer: Answer) -> bytes:
    last = answer.last_chunk()
    return b"" if last is None else encode_event(json.dumps(last))


async def _with_first(first: NumberedEvent, others: AsyncGenerator[NumberedEvent]) -> AsyncGenerator[NumberedEvent]:
    yield first
    async for event in others:
        yield event
