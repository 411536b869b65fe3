"""The stream of a model that speaks responses, as chat chunks.

Owns what each event adds; refuses to know transport and whom the chunks are for. Invariant: never raises; whatever a
server says only at the end of a part (some send no deltas) is said then, and nothing is said twice.
"""

from __future__ import annotations

import json
from typing import Literal

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_count, as_object, as_text, as_time, objects_in
from metaclaw.chat.responses import built_in_calls, freeform, tool_search
from metaclaw.chat.responses.answers import finish_reason_of, usage_to_chat
from metaclaw.chat.responses.citations import citations_to_chat
from metaclaw.chat.responses.namespaces import chat_name
from metaclaw.chat.sse import DONE, SseEvent

_Kind = Literal["content", "refusal", "reasoning_content", "arguments"]
# By the part's name in the event's type: what it adds to, and where its text stands in the closing event.
_PARTS: dict[str, tuple[_Kind, str, str]] = {
    "output_text": ("content", "content_index", "text"),
    "refusal": ("refusal", "content_index", "refusal"),
    "reasoning_text": ("reasoning_content", "content_index", "text"),
    "reasoning_summary_text": ("reasoning_content", "summary_index", "text"),
    "function_call_arguments": ("arguments", "", "arguments"),
}


class ResponsesSource:
    """Add events in order."""

    def __init__(self) -> None:
        self.is_done = False
        self.error: JsonObject | None = None
        self._head: JsonObject = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
        self._has_begun = False
        self._said: dict[tuple[int, str, int], str] = {}  # by item, part and place in it: what was passed on
        self._calls: dict[int, int] = {}  # by item: the number of its call
        self._items: dict[int, JsonObject] = {}  # as far as they were told

    def add_event(self, event: SseEvent) -> list[JsonObject]:
        """The chunks that ``event`` makes."""
        if event.data is None or event.data == DONE:
            return []
        try:
            data = as_object(json.loads(event.data))
        except (ValueError, RecursionError):
            return []
        kind = as_text(data.get("type")) or event.event or ""
        if kind == "error" or (not kind and data.get("error")):
            self.error = self.error or _error_in(data)
            return []
        name, _, phase = kind.removeprefix("response.").rpartition(".")
        if name in _PARTS and phase in ("delta", "done"):
            return self._add_part(name, phase, data)
        if name == "output_text.annotation" and phase == "added":
            cited = citations_to_chat([data.get("annotation")])
            return [self._chunk({"annotations": cited})] if cited else []
        if name == "output_item" and phase in ("added", "done"):
            return self._add_item(as_count(data.get("output_index")), as_object(data.get("item")), phase == "done")
        return self._add_response(phase, as_object(data.get("response")))

    def _add_response(self, phase: str, response: JsonObject) -> list[JsonObject]:
        if phase in ("created", "in_progress", "queued"):
            return self._begin(response)
        if phase == "failed":
            self.error = self.error or _error_in(response)
        if phase not in ("completed", "incomplete"):
            return []
        chunks = self._begin(response)
        for index, item in enumerate(objects_in(response.get("output"))):
            chunks += self._add_item(index, item, is_done=True)
        reason = finish_reason_of({**response, "status": phase, "output": list(self._items.values())})
        chunks.append(self._chunk({}, finish_reason=reason))
        if usage := usage_to_chat(response.get("usage")):
            chunks.append({**self._head, "choices": [], "usage": usage})
        self.is_done = True
        return chunks

    def _begin(self, response: JsonObject) -> list[JsonObject]:
        if self._has_begun:
            return []
        self._has_begun = True
        self._head |= {
            "id": as_text(response.get("id")),
            "created": as_time(response.get("created_at")),
            "model": as_text(response.get("model")),
        }
        return [self._chunk({"role": "assistant"})]

    def _add_item(self, index: int, item: JsonObject, is_done: bool) -> list[JsonObject]:
        self._items[index] = item
        kind = item.get("type")
        if kind == "function_call":
            return self._add_call(index, item, is_done)
        if kind == freeform.CALL:
            # Only when it is whole: as a function's arguments it is JSON, of which its deltas are no pieces.
            called = {**item, "arguments": freeform.as_arguments(item.get("input"))}
            return self._add_call(index, called, is_done) if is_done else []
        if kind in built_in_calls.KINDS:
            return self._add_call(index, built_in_calls.as_called(item), is_done) if is_done else []
        if kind == tool_search.CALL and tool_search.is_clients(item):
            return self._add_call(index, tool_search.as_called(item), is_done) if is_done else []
        if not is_done:
            return []
        chunks: list[JsonObject] = []
        if kind == "message":
            for place, part in enumerate(objects_in(item.get("content"))):
                name = "refusal" if part.get("type") == "refusal" else "output_text"
                chunks += self._add_part(name, "done", {"output_index": index, "content_index": place, **part})
        if kind == "reasoning":
            for key, name in (("content", "reasoning_text"), ("summary", "reasoning_summary_text")):
                for place, part in enumerate(objects_in(item.get(key))):
                    where = {"output_index": index, "content_index": place, "summary_index": place}
                    chunks += self._add_part(name, "done", {**part, **where})
        return chunks

    def _add_call(self, index: int, item: JsonObject, is_done: bool) -> list[JsonObject]:
        chunks: list[JsonObject] = []
        if index not in self._calls:
            self._calls[index] = len(self._calls)
            call: JsonObject = {
                "index": self._calls[index],
                "id": as_text(item.get("call_id")) or as_text(item.get("id")),
                "type": "function",
                "function": {"name": chat_name(item), "arguments": ""},
            }
            chunks.append(self._chunk({"tool_calls": [call]}))
        if is_done:
            arguments = {"output_index": index, "arguments": item.get("arguments")}
            chunks += self._add_part("function_call_arguments", "done", arguments)
        return chunks

    def _add_part(self, name: str, phase: str, data: JsonObject) -> list[JsonObject]:
        kind, place_key, whole_key = _PARTS[name]
        index = as_count(data.get("output_index"))
        place = (index, name, as_count(data.get(place_key)) if place_key else 0)
        said = self._said.get(place, "")
        if phase == "delta":
            text = as_text(data.get("delta"))
        else:
            whole = as_text(data.get(whole_key))
            text = whole[len(said) :] if whole.startswith(said) else ""
        if not text or (kind == "reasoning_content" and self._is_said_otherwise(index, name)):
            return []
        self._said[place] = said + text
        if kind == "arguments":
            number = self._calls.get(index)
            if number is None:
                return []  # arguments of nothing; its item will say them once more
            return [self._chunk({"tool_calls": [{"index": number, "function": {"arguments": text}}]})]
        if kind == "reasoning_content" and not said and any(key[1] == name for key in self._said if key != place):
            text = "\n\n" + text
        return [self._chunk({kind: text})]

    def _is_said_otherwise(self, index: int, name: str) -> bool:
        """Whether this thinking is being told in its other form already, in full or as a summary."""
        other = "reasoning_text" if name == "reasoning_summary_text" else "reasoning_summary_text"
        return any(key[0] == index and key[1] == other for key in self._said)

    def _chunk(self, delta: JsonObject, finish_reason: str | None = None) -> JsonObject:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def _error_in(data: JsonObject) -> JsonObject:
    error = as_object(data.get("error")) or {key: data[key] for key in ("message", "code", "param") if key in data}
    return error if error.get("message") else {**error, "message": "the model failed and did not say why"}
