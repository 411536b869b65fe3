"""Chat chunks as a stream of Anthropic's messages.

Owns the events of a message and their order; refuses to know how chunks come. Invariant: one ``message_start``, then
blocks one after the other, then ``message_delta`` with the stop reason and the usage, then ``message_stop``.

How many tokens were read is known only at the end: ``message_start`` says 0 and ``message_delta`` the truth.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from metaclaw.chat.anthropic.answers import call_id, sealed_in, thinking_in
from metaclaw.chat.anthropic.endings import stop_keys, usage_from_chat
from metaclaw.chat.anthropic.fields import object_in, objects, text_in
from metaclaw.chat.anthropic.open_blocks import OpenBlocks
from metaclaw.chat.anthropic.tools import own_name
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.sse import encode_event
from metaclaw.chat.streamed_calls import CallNumbers, arguments_in


class MessageSink:
    """Feed it chunks; it gives back events. Choices beyond the first are left out."""

    def __init__(self, request: JsonObject) -> None:
        self._request = request
        self._blocks = OpenBlocks()
        self._id = ""
        self._has_begun = False
        self._ended: JsonObject = {}  # the choice that had a finish reason
        self._usage: JsonObject = {}
        self._calls = CallNumbers()
        self._is_refusal = False

    def add_chunk(self, chunk: JsonObject) -> bytes:
        return _encoded(self._events(chunk))

    def finish(self) -> bytes:
        return _encoded(self._last_events())

    def fail(self, error: JsonObject) -> bytes:
        return _encoded([error])

    def _events(self, chunk: JsonObject) -> Iterator[JsonObject]:
        self._usage = object_in(chunk.get("usage")) or self._usage
        if not self._has_begun:
            yield self._beginning(chunk)
        for choice in objects(chunk.get("choices")):
            if choice.get("index", 0) != 0:
                continue
            yield from self._said(object_in(choice.get("delta")))
            if choice.get("finish_reason"):
                self._ended = choice
                yield from self._blocks.close()

    def _beginning(self, chunk: JsonObject) -> JsonObject:
        self._has_begun = True
        self._id = text_in(chunk.get("id"))
        model = text_in(chunk.get("model")) or text_in(self._request.get("model"))
        message: JsonObject = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_from_chat(chunk.get("usage")),
        }
        return {"type": "message_start", "message": message}

    def _said(self, delta: JsonObject) -> Iterator[JsonObject]:
        if thinking := thinking_in(delta):
            yield from self._blocks.say("thinking", thinking)
        for block in sealed_in(delta):
            yield from self._blocks.seal(block)
        if text := text_in(delta.get("content")):
            yield from self._blocks.say("text", text)
        if refusal := text_in(delta.get("refusal")):
            self._is_refusal = True
            yield from self._blocks.say("text", refusal)
        for call in objects(delta.get("tool_calls")):
            function = object_in(call.get("function"))
            number = self._calls.of(call)
            uid = call_id(call.get("id"), self._id, number)
            name = own_name(text_in(function.get("name")), self._request)
            yield from self._blocks.call(number, uid, name, arguments_in(function))

    def _last_events(self) -> Iterator[JsonObject]:
        if not self._has_begun:
            yield self._beginning({})
        yield from self._blocks.close()
        keys = stop_keys(self._ended, self._request, has_calls=len(self._calls) > 0, is_refusal=self._is_refusal)
        yield {"type": "message_delta", "delta": keys, "usage": usage_from_chat(self._usage)}
        yield {"type": "message_stop"}


def _encoded(events: Iterable[JsonObject]) -> bytes:
    return b"".join(
        encode_event(json.dumps(event, separators=(",", ":")), text_in(event.get("type"))) for event in events
    )
