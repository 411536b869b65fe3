"""The items of a request or an answer, as chat messages.

Owns which items make one message; refuses to know parameters and streams. Invariant: every item belongs to exactly one
message, so that a message can be dropped with all that it was made of; and reading never fails: what chat cannot say is
kept as a problem, for whoever must translate.

A model says its reasoning, its text and its calls in items of their own. What it said without anyone else speaking is
one assistant message; its texts are joined as the SDKs' ``output_text`` joins them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_object, as_text, objects_in, without
from metaclaw.chat.responses import built_in_calls, freeform, tool_search
from metaclaw.chat.responses.namespaces import chat_name, functions_in
from metaclaw.chat.responses.parts import Problem, content_to_chat
from metaclaw.chat.responses.reasoning import blocks_of_reasoning, text_of_reasoning
from metaclaw.errors import InvalidRequestError

_OF_AN_ITEM = ("type", "id", "status", "phase")  # an item's own keys, which no message has
_OUTPUTS = ("function_call_output", freeform.OUTPUT)
_FROM_OUTSIDE = ("_output", "_approval_response")
# What a developer says of all that follows; no model said it, and nobody asked it.
_SETTINGS = (tool_search.ADDED, "configuration_update", "compaction_trigger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A message, and where in ``input`` what it is made of stands: nowhere for ``instructions``, at 0 for a string."""

    message: JsonObject
    items: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The messages in order, and what of the items chat could not say."""

    placed: list[Placed]
    problems: list[Problem]

    @property
    def messages(self) -> list[JsonObject]:
        return [place.message for place in self.placed]


def conversation_of(body: JsonObject) -> Conversation:
    """What a request says."""
    reader = _Reader()
    if instructions := as_text(body.get("instructions")):
        reader.placed.append(Placed(message={"role": "system", "content": instructions}, items=()))
    given: Any = body.get("input")
    if isinstance(given, str):
        reader.placed.append(Placed(message={"role": "user", "content": given}, items=(0,)))
    else:
        for index, item in enumerate(given or ()):
            reader.add(index, as_object(item))
    reader.end_answer()
    return Conversation(placed=reader.placed, problems=reader.problems)


def message_of(output: object) -> JsonObject | None:
    """The items of an answer as one assistant message; ``None`` when there are none."""
    reader = _Reader()
    for index, item in enumerate(objects_in(output)):
        reader.add(index, item)
    reader.end_answer()
    answers = [place.message for place in reader.placed if place.message["role"] == "assistant"]
    return answers[-1] if answers else None


@dataclass(slots=True)
class _Answer:
    """An assistant message in the making."""

    texts: list[str] = field(default_factory=list[str])
    refusals: list[str] = field(default_factory=list[str])
    thoughts: list[str] = field(default_factory=list[str])
    sealed: list[JsonObject] = field(default_factory=list[JsonObject])  # thinking that its model wants back as it was
    calls: list[JsonObject] = field(default_factory=list[JsonObject])
    items: list[int] = field(default_factory=list[int])

    def message(self) -> JsonObject:
        says_nothing = not (self.texts or self.refusals or self.calls)
        message: JsonObject = {"role": "assistant", "content": "".join(self.texts) if self.texts else None}
        if says_nothing:
            message["content"] = ""
        if self.refusals:
            message["refusal"] = "".join(self.refusals)
        if self.thoughts:
            message["reasoning_content"] = "\n\n".join(self.thoughts)
        if self.sealed:
            message["thinking_blocks"] = self.sealed
        if self.calls:
            message["tool_calls"] = self.calls
        return message


class _Reader:
    def __init__(self) -> None:
        self.placed: list[Placed] = []
        self.problems: list[Problem] = []
        self._answer = _Answer()

    def add(self, index: int, item: JsonObject) -> None:
        kind = item.get("type") or ("message" if "role" in item else "item_reference")
        if kind == "message" and item.get("role") != "assistant":
            self._add_message(index, item)
        elif kind in _SETTINGS:
            self._add_setting(index, item, kind)
        elif kind in _OUTPUTS or (isinstance(kind, str) and kind.endswith(_FROM_OUTSIDE)):
            self._add_output(index, item, str(kind))
        else:
            self._answer.items.append(index)
            self._add_to_answer(index, item, str(kind))

    def end_answer(self) -> None:
        if self._answer.items:
            self.placed.append(Placed(message=self._answer.message(), items=self._answer.items))
            self._answer = _Answer()

    def _add_message(self, index: int, item: JsonObject) -> None:
        self.end_answer()
        role = item.get("role")
        content = content_to_chat(item.get("content"), f"input[{index}].content", self.problems)
        message = {**without(item, *_OF_AN_ITEM), "role": "system" if role == "developer" else role, "content": content}
        self.placed.append(Placed(message=message, items=(index,)))

    def _add_setting(self, index: int, item: JsonObject, kind: str) -> None:
        self.end_answer()
        if kind == tool_search.ADDED:
            message = {"role": "system", "content": tool_search.said_of(_names_of(item.get("tools")))}
        else:
            self._cannot(index, kind)
            message = {"role": "system", "content": ""}
        self.placed.append(Placed(message=message, items=(index,)))

    def _add_output(self, index: int, item: JsonObject, kind: str) -> None:
        self.end_answer()
        if kind == tool_search.OUTPUT and tool_search.is_clients(item):
            item = {**item, "output": tool_search.said_of(_names_of(item.get("tools")))}
        elif kind not in _OUTPUTS:
            self._cannot(index, kind)
        content = content_to_chat(item.get("output"), f"input[{index}].output", self.problems)
        message = {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
        self.placed.append(Placed(message=message, items=(index,)))

    def _add_to_answer(self, index: int, item: JsonObject, kind: str) -> None:
        if kind == "message":
            self._add_said(index, item)
        elif kind == "reasoning":
            self._add_thought(item)
        elif kind == "function_call":
            self._add_call(item, item.get("arguments"))
        elif kind == freeform.CALL:
            self._add_call(item, freeform.as_arguments(item.get("input")))
        elif kind == tool_search.CALL and tool_search.is_clients(item):
            called = tool_search.as_called(item)
            self._add_call(called, called["arguments"])
        elif kind in built_in_calls.KINDS:
            self._cannot(index, kind)
            called = built_in_calls.as_called(item)
            self._add_call(called, called["arguments"])
        elif kind == "item_reference":
            self._refuse(f"input[{index}]", "refers to an item that is not kept here: send the item itself")
        else:
            self._cannot(index, kind)

    def _add_call(self, item: JsonObject, arguments: object) -> None:
        name = chat_name(item) if item.get("namespace") else item.get("name")
        called = {"name": name, "arguments": arguments}
        self._answer.calls.append({"id": item.get("call_id"), "type": "function", "function": called})

    def _add_said(self, index: int, item: JsonObject) -> None:
        content: object = item.get("content")
        if isinstance(content, str):
            self._answer.texts.append(content)
            return
        for place, part in enumerate(objects_in(content)):
            if part.get("type") == "refusal":
                self._answer.refusals.append(as_text(part.get("refusal")))
            elif isinstance(part.get("text"), str):
                self._answer.texts.append(part["text"])
            else:
                self._refuse(f"input[{index}].content[{place}]", "is no text, which is all that a chat model has said")

    def _add_thought(self, item: JsonObject) -> None:
        # What another provider encrypted no other model can read; as a session goes on, it is not asked to.
        if text := text_of_reasoning(item):
            self._answer.thoughts.append(text)
        self._answer.sealed += blocks_of_reasoning(item)

    def _cannot(self, index: int, kind: str) -> None:
        self._refuse(f"input[{index}]", f"is of type {kind!r:.40}, which a chat model cannot be told")

    def _refuse(self, where: str, why: str) -> None:
        self.problems.append(InvalidRequestError(f"{where} {why}", param=where))


def _names_of(tools: object) -> list[str]:
    return [as_text(function.get("name")) for tool in objects_in(tools) for function in functions_in(tool)]
