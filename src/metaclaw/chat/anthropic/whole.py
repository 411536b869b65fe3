"""A plain answer of Anthropic's messages and the stream that brings the same.

Owns both ways; refuses to know chat. Invariant: nothing is lost on either, blocks of kinds that are not known here
included; and nothing raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from metaclaw.chat.anthropic.answers import input_of
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_list, as_object, as_text, is_list, is_object, objects_in, without
from metaclaw.chat.sse import SseEvent, encode_event

_AT_THE_END = ("stop_reason", "stop_sequence", "stop_details", "container")  # known only then
_BESIDE = "context_management"  # stands beside them
# By the type of a delta: where it is added, and what it adds.
_ADDED_TO = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def stream_of(answer: JsonObject) -> bytes | None:
    """All events of ``answer``; ``None`` when it is no message."""
    if not is_list(answer.get("content")):
        return None
    return b"".join(encode_event(json.dumps(event, separators=(",", ":")), event["type"]) for event in _events(answer))


def answer_of(events: Iterable[SseEvent]) -> JsonObject | None:
    """The message that ``events`` bring; ``None`` when they bring none."""
    folded = _Folded()
    for event in events:
        folded.add(event)
    return folded.message()


def _events(answer: JsonObject) -> Iterator[JsonObject]:
    usage = as_object(answer.get("usage"))
    unknown = {key: None for key in _AT_THE_END if key in answer}
    yield {
        "type": "message_start",
        "message": {**answer, **unknown, "content": [], "usage": {**usage, "output_tokens": 0}},
    }
    for index, block in enumerate(objects_in(answer["content"])):
        start, deltas = _in_pieces(block)
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {key: answer[key] for key in _AT_THE_END if key in answer}
    beside = {_BESIDE: answer[_BESIDE]} if _BESIDE in answer else {}
    yield {"type": "message_delta", "delta": delta, "usage": usage, **beside}
    yield {"type": "message_stop"}


def _in_pieces(block: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
    """How a block begins, and what is added to it."""
    if is_object(block.get("input")):  # a call, of whatever kind of tool
        written = json.dumps(block["input"], separators=(",", ":")) if block["input"] else ""
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": written}]
    start, deltas = dict(block), list[JsonObject]()
    if block.get("type") not in ("text", "thinking"):
        return start, deltas
    for kind, key in _ADDED_TO.items():
        if text := as_text(block.get(key)):
            start[key] = ""
            deltas.append({"type": kind, key: text})
    if cited := objects_in(block.get("citations")):
        start["citations"] = []
        deltas += [{"type": "citations_delta", "citation": one} for one in cited]
    return start, deltas


class _Folded:
    """Add events in order, then ask for the message."""

    def __init__(self) -> None:
        self._message: JsonObject | None = None
        self._blocks: dict[object, JsonObject] = {}
        self._inputs: dict[object, str] = {}  # of calls, as far as they were written

    def add(self, event: SseEvent) -> None:
        try:
            data = as_object(json.loads(event.data or "null"))
        except (ValueError, RecursionError):
            return
        place = data.get("index") if isinstance(data.get("index"), int) else 0
        match as_text(data.get("type")) or event.event:
            case "message_start":
                self._message = dict(as_object(data.get("message")))
            case "content_block_start":
                self._blocks[place] = dict(as_object(data.get("content_block")))
            case "content_block_delta":
                self._extend(place, as_object(data.get("delta")))
            case "message_delta":
                self._end(data)
            case _:
                pass

    def message(self) -> JsonObject | None:
        if self._message is None:
            return None
        for place, written in self._inputs.items():
            if written.strip() and place in self._blocks:
                self._blocks[place]["input"] = input_of(written)
        return {**self._message, "content": list(self._blocks.values())}

    def _extend(self, place: object, delta: JsonObject) -> None:
        block = self._blocks.setdefault(place, {"type": "text", "text": ""})
        kind = as_text(delta.get("type"))
        if kind == "input_json_delta":
            self._inputs[place] = self._inputs.get(place, "") + as_text(delta.get("partial_json"))
        elif kind == "citations_delta":
            block["citations"] = [*as_list(block.get("citations")), delta.get("citation")]
        elif key := _ADDED_TO.get(kind):
            block[key] = as_text(block.get(key)) + as_text(delta.get(key))
        else:  # of a compaction, and what is not known here
            block |= {key: value for key, value in without(delta, "type").items() if value is not None}

    def _end(self, data: JsonObject) -> None:
        if self._message is None:
            return
        counted = {key: count for key, count in as_object(data.get("usage")).items() if count is not None}
        usage = {**as_object(self._message.get("usage")), **counted}
        self._message |= {**without(data, "type", "delta", "usage"), **as_object(data.get("delta")), "usage": usage}
