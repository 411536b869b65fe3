"""A stream of Anthropic's messages as chat chunks.

Owns reading its events; refuses to know how bytes become events and what a client makes of chunks. Invariant: an event
that makes no sense makes no chunk, nothing raises, and the chunks folded are what the plain answer would be in chat.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from metaclaw.chat.anthropic.answers import is_sealed
from metaclaw.chat.anthropic.conversation import written
from metaclaw.chat.anthropic.endings import finish_reason, usage_to_chat
from metaclaw.chat.anthropic.fields import count_in, object_in, text_in
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.sse import SseEvent


class MessageSource:
    """Feed it events; it gives back chunks."""

    def __init__(self) -> None:
        self.is_done = False
        self.error: JsonObject | None = None
        self._id = ""
        self._model = ""
        self._usage: JsonObject = {}
        self._blocks: dict[int, JsonObject] = {}  # that are open, by their index
        self._num_calls = 0
        self._num_sealed = 0
        self._on: dict[str, Callable[[JsonObject], list[JsonObject]]] = {
            "message_start": self._start,
            "content_block_start": self._open,
            "content_block_delta": self._add,
            "content_block_stop": self._close,
            "message_delta": self._end,
            "message_stop": self._stop,
            "error": self._fail,
        }

    def add_event(self, event: SseEvent) -> list[JsonObject]:
        try:
            body = object_in(json.loads(event.data or "null"))
        except (ValueError, RecursionError):
            return []
        kind = text_in(body.get("type")) or event.event or ""
        return self._on[kind](body) if kind in self._on else []

    def _start(self, event: JsonObject) -> list[JsonObject]:
        message = object_in(event.get("message"))
        self._id, self._model = text_in(message.get("id")), text_in(message.get("model"))
        self._count(message)
        return [self._chunk({"role": "assistant", "content": ""})]

    def _open(self, event: JsonObject) -> list[JsonObject]:
        block = dict(object_in(event.get("content_block")))
        self._blocks[count_in(event.get("index"))] = block
        if block.get("type") == "tool_use":
            block["number"], block["json"] = self._num_calls, ""
            self._num_calls += 1
            function = {"name": text_in(block.get("name")), "arguments": ""}
            return [self._call(block, {"id": text_in(block.get("id")), "type": "function", "function": function})]
        begun = text_in(block.get("text")) or text_in(block.get("thinking"))
        return self._said(block, begun) if begun else []

    def _add(self, event: JsonObject) -> list[JsonObject]:
        block = self._blocks.get(count_in(event.get("index")))
        delta = object_in(event.get("delta"))
        if block is None:
            return []
        if signature := text_in(delta.get("signature")):
            block["signature"] = signature
        if thinking := text_in(delta.get("thinking")):
            block["thinking"] = text_in(block.get("thinking")) + thinking
        if block.get("type") == "tool_use":
            part = text_in(delta.get("partial_json"))
            block["json"] += part
            return [self._call(block, {"function": {"arguments": part}})] if part else []
        said = thinking or text_in(delta.get("text"))
        return self._said(block, said) if said else []

    def _close(self, event: JsonObject) -> list[JsonObject]:
        block = self._blocks.pop(count_in(event.get("index")), JsonObject())
        if block.get("type") == "tool_use" and not block["json"].strip():
            # A call without arguments streams none; some servers give all of them at the start.
            return [self._call(block, {"function": {"arguments": written(object_in(block.get("input")))}})]
        if not is_sealed(block):
            return []
        self._num_sealed += 1
        return [self._chunk({"thinking_blocks": [{**block, "index": self._num_sealed - 1}]})]

    def _end(self, event: JsonObject) -> list[JsonObject]:
        self._count(event)
        delta = object_in(event.get("delta"))
        if not delta.get("stop_reason"):
            return []
        self.is_done = True
        explanation = text_in(object_in(delta.get("stop_details")).get("explanation"))
        last = self._chunk({"refusal": explanation} if explanation else {}, finish_reason(delta["stop_reason"]))
        if sequence := text_in(delta.get("stop_sequence")):
            last["choices"][0]["stop_reason"] = sequence
        return [last, {**self._chunk({}), "choices": [], "usage": usage_to_chat(self._usage)}]

    def _stop(self, _event: JsonObject) -> list[JsonObject]:
        self.is_done = True
        return []

    def _fail(self, event: JsonObject) -> list[JsonObject]:
        self.error = object_in(event.get("error")) or {"message": "the model's stream ended with an error"}
        return []

    def _count(self, holder: JsonObject) -> None:
        # The counts are totals; those that an event leaves out stand.
        usage = object_in(holder.get("usage"))
        self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _said(self, block: JsonObject, text: str) -> list[JsonObject]:
        kinds = {"text": "content", "thinking": "reasoning_content"}
        kind = text_in(block.get("type"))
        return [self._chunk({kinds[kind]: text})] if kind in kinds else []

    def _call(self, block: JsonObject, call: JsonObject) -> JsonObject:
        return self._chunk({"tool_calls": [{"index": block["number"], **call}]})

    def _chunk(self, delta: JsonObject, reason: str | None = None) -> JsonObject:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": 0,  # Anthropic does not say
            "model": self._model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
