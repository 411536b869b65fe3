"""A plain response and the stream that brings the same.

Owns both ways; refuses to know chat. Invariant: nothing is lost on either, items of kinds that are not known here
included; and nothing raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_list, as_object, as_text, is_list, objects_in
from metaclaw.chat.responses.writing import EventWriter
from metaclaw.chat.sse import SseEvent

_ENDS = ("completed", "incomplete", "failed")
_NOT_YET: JsonObject = {"status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None}
# By the type of an item: the event that adds to it, and what it adds to.
_WRITTEN = {
    "function_call": ("function_call_arguments", "arguments"),
    "custom_tool_call": ("custom_tool_call_input", "input"),
    "mcp_call": ("mcp_call_arguments", "arguments"),
}
# By the type of a part: the same.
_SAID = {
    "output_text": ("output_text", "text"),
    "refusal": ("refusal", "refusal"),
    "reasoning_text": ("reasoning_text", "text"),
    "summary_text": ("reasoning_summary_text", "text"),
}


def stream_of(answer: JsonObject) -> bytes | None:
    """All events of ``answer``; ``None`` when it is no response, or one that goes on in the background."""
    status = answer.get("status", "completed")
    if not is_list(answer.get("output")) or status not in _ENDS:
        return None
    events = EventWriter()
    begun: JsonObject = {**answer, **_NOT_YET}
    made = [events.event(f"response.{kind}", response=begun) for kind in ("created", "in_progress")]
    for index, item in enumerate(objects_in(answer["output"])):
        made += _ItemEvents(events, index, item).all()
    made.append(events.event(f"response.{status}", response={**answer, "status": status}))
    return b"".join(made)


def answer_of(events: Iterable[SseEvent]) -> JsonObject | None:
    """The response that ``events`` bring; ``None`` when they bring none to its end."""
    items: dict[object, JsonObject] = {}
    ended: JsonObject | None = None
    for event in events:
        try:
            data = as_object(json.loads(event.data or "null"))
        except (ValueError, RecursionError):
            continue
        kind = as_text(data.get("type")) or event.event or ""
        if kind == "response.output_item.done":
            items[data.get("output_index") if isinstance(data.get("output_index"), int) else len(items)] = as_object(
                data.get("item")
            )
        elif kind.removeprefix("response.") in _ENDS:
            ended = as_object(data.get("response"))
    if ended is None:
        return None
    # Some servers say at the end only that it is one.
    return ended if objects_in(ended.get("output")) else {**ended, "output": list(items.values())}


class _ItemEvents:
    """The events of one item."""

    def __init__(self, events: EventWriter, index: int, item: JsonObject) -> None:
        self._events = events
        self._index = index
        self._item = item

    def all(self) -> list[bytes]:
        item, begun = self._item, dict(self._item)
        if "status" in item:
            begun["status"] = "in_progress"
        written = _WRITTEN.get(as_text(item.get("type")))
        if written:
            begun[written[1]] = ""
        for key in ("summary", "content"):
            if is_list(item.get(key)):
                begun[key] = []
        made = [self._events.event("response.output_item.added", output_index=self._index, item=begun)]
        if written:
            made += self._written(*written)
        for place, part in enumerate(objects_in(item.get("summary"))):
            made += self._part(part, "reasoning_summary_part", summary_index=place)
        for place, part in enumerate(objects_in(item.get("content"))):
            made += self._part(part, "content_part", content_index=place)
        made.append(self._events.event("response.output_item.done", output_index=self._index, item=item))
        return made

    def _written(self, kind: str, key: str) -> list[bytes]:
        text = as_text(self._item.get(key))
        name = {"name": self._item["name"]} if kind == "function_call_arguments" and "name" in self._item else {}
        delta = [self._event(f"{kind}.delta", delta=text)] if text else []
        return [*delta, self._event(f"{kind}.done", **{key: text}, **name)]

    def _part(self, part: JsonObject, kind: str, **place: int) -> list[bytes]:
        said = _SAID.get(as_text(part.get("type")))
        if said is None:
            return [self._event(f"{kind}.{phase}", **place, part=part) for phase in ("added", "done")]
        name, key = said
        text, cited = as_text(part.get(key)), objects_in(part.get("annotations"))
        is_text = name == "output_text"
        logprobs: JsonObject = {"logprobs": as_list(part.get("logprobs"))} if is_text else {}
        empty: JsonObject = {key: "", "annotations": [], "logprobs": []} if is_text else {key: ""}
        begun: JsonObject = {**part, **empty}
        made = [self._event(f"{kind}.added", **place, part=begun)]
        if text:
            made.append(self._event(f"{name}.delta", **place, delta=text, **logprobs))
        for number, one in enumerate(cited):
            made.append(self._event("output_text.annotation.added", **place, annotation_index=number, annotation=one))
        made.append(self._event(f"{name}.done", **place, **{key: text}, **logprobs))
        return [*made, self._event(f"{kind}.done", **place, part=part)]

    def _event(self, kind: str, **fields: object) -> bytes:
        item_id = as_text(self._item.get("id"))
        return self._events.event(f"response.{kind}", item_id=item_id, output_index=self._index, **fields)
