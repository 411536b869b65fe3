"""The items of an answer while it streams.

Owns the events of each kind of item, from its opening to its close; refuses to know chunks and the order of items.
Invariant: the item that ``close`` returns is what its deltas made.
"""

from __future__ import annotations

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.responses import freeform, tool_search
from metaclaw.chat.responses.answers import (
    Envelope,
    call_item,
    call_prefix,
    message_item,
    text_part,
    whole_arguments,
)
from metaclaw.chat.responses.namespaces import OwnTool
from metaclaw.chat.responses.reasoning import reasoning_item, wants_summary
from metaclaw.chat.responses.writing import EventWriter
from metaclaw.chat.streamed_calls import JsonEnd


class _Item:
    """What every kind shares: where it stands, and its first and last event.

    It is made, begun, added to, and closed, each in its turn.
    """

    prefix: str

    def begin(self, envelope: Envelope, events: EventWriter, index: int) -> bytes:
        self.request = envelope.request
        self.item_id = envelope.item_id(self.prefix, index)
        self.index = index
        self._events = events
        return self._events.event("response.output_item.added", output_index=index, item=self.item("in_progress"))

    def close(self, status: str) -> tuple[bytes, JsonObject]:
        made = self.end_parts()
        item = self.item(status)
        return made + self._events.event("response.output_item.done", output_index=self.index, item=item), item

    def item(self, status: str) -> JsonObject:
        raise NotImplementedError

    def end_parts(self) -> bytes:
        raise NotImplementedError

    def event(self, kind: str, **fields: object) -> bytes:
        """An event inside this item."""
        return self._events.event(f"response.{kind}", item_id=self.item_id, output_index=self.index, **fields)


class MessageItem(_Item):
    """What the model says, or that it refuses to."""

    prefix = "msg"

    def __init__(self) -> None:
        self._content: list[JsonObject] = []  # parts that are complete
        self._text: str | None = None  # of the open part; ``None`` when none is open
        self._cited: list[JsonObject] = []
        self._is_refusal = False

    def say(self, text: str, *, is_refusal: bool) -> bytes:
        """More text; a part is opened where needed."""
        made = b""
        if self._text is None or is_refusal != self._is_refusal:
            made = self.end_parts()
            self._text, self._cited, self._is_refusal = "", [], is_refusal
            made += self._event("content_part.added", part=self._part())
        self._text = (self._text or "") + text
        if not text:
            return made
        if is_refusal:
            return made + self._event("refusal.delta", delta=text)
        return made + self._event("output_text.delta", delta=text, logprobs=[])

    def cite(self, citation: JsonObject) -> bytes:
        """A page of the web that the text rests on."""
        made = self.say("", is_refusal=False)
        self._cited.append(citation)
        index = len(self._cited) - 1
        return made + self._event("output_text.annotation.added", annotation_index=index, annotation=citation)

    def item(self, status: str) -> JsonObject:
        return message_item(self.item_id, list(self._content), status)

    def end_parts(self) -> bytes:
        if self._text is None:
            return b""
        part, text = self._part(), self._text
        if self._is_refusal:
            made = self._event("refusal.done", refusal=text)
        else:
            made = self._event("output_text.done", text=text, logprobs=[])
        made += self._event("content_part.done", part=part)
        self._content.append(part)
        self._text = None
        return made

    def _part(self) -> JsonObject:
        text = self._text or ""
        return {"type": "refusal", "refusal": text} if self._is_refusal else text_part(text, self._cited)

    def _event(self, kind: str, **fields: object) -> bytes:
        return self.event(kind, content_index=len(self._content), **fields)


class ReasoningItem(_Item):
    """What the model thinks, in full or as a summary: as the client asked."""

    prefix = "rs"

    def __init__(self, request: JsonObject) -> None:
        self._is_summary = wants_summary(request)
        self._text = ""
        self._sealed: list[JsonObject] = []

    def begin(self, envelope: Envelope, events: EventWriter, index: int) -> bytes:
        made = super().begin(envelope, events, index)
        if self._is_summary:
            return made + self.event("reasoning_summary_part.added", summary_index=0, part=self._part())
        return made + self.event("content_part.added", content_index=0, part=self._part())

    def add(self, text: str) -> bytes:
        self._text += text
        if self._is_summary:
            return self.event("reasoning_summary_text.delta", summary_index=0, delta=text)
        return self.event("reasoning_text.delta", content_index=0, delta=text)

    def seal(self, block: JsonObject) -> None:
        """What was thought, as its model wants it back."""
        self._sealed.append(block)

    def item(self, status: str) -> JsonObject:
        return reasoning_item(self.item_id, self._text, self.request, blocks=self._sealed, status=status)

    def end_parts(self) -> bytes:
        if self._is_summary:
            made = self.event("reasoning_summary_text.done", summary_index=0, text=self._text)
            return made + self.event("reasoning_summary_part.done", summary_index=0, part=self._part())
        made = self.event("reasoning_text.done", content_index=0, text=self._text)
        return made + self.event("content_part.done", content_index=0, part=self._part())

    def _part(self) -> JsonObject:
        return {"type": "summary_text" if self._is_summary else "reasoning_text", "text": self._text}


class CallItem(_Item):
    """A tool that the model calls. Free text is told when it is whole: until then it is a piece of JSON."""

    def __init__(self, tool: OwnTool, *, call_id: str) -> None:
        self.prefix = call_prefix(tool)
        self.is_closed = False
        self._tool = tool
        self._call_id = call_id
        self._arguments = ""
        self._end = JsonEnd()

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are complete."""
        return self._end.is_reached

    def add(self, text: str) -> bytes:
        self._arguments += text
        self._end.feed(text)
        is_told = text and self._is_function
        return self.event("function_call_arguments.delta", delta=text) if is_told else b""

    def close(self, status: str) -> tuple[bytes, JsonObject]:
        self.is_closed = True
        whole = whole_arguments(self._arguments, status) if self._is_function else self._arguments
        made = self.add(whole.removeprefix(self._arguments))
        closing, item = super().close(status)
        return made + closing, item

    @property
    def _is_function(self) -> bool:
        return self._tool.kind not in (freeform.KIND, tool_search.KIND)

    def item(self, status: str) -> JsonObject:
        return call_item(self.item_id, self._tool, call_id=self._call_id, arguments=self._arguments, status=status)

    def end_parts(self) -> bytes:
        if self._tool.kind == tool_search.KIND:
            return b""  # its item says it all
        if self._is_function:
            name = self._tool.named["name"]
            return self.event("function_call_arguments.done", name=name, arguments=self._arguments)
        text = freeform.text_of(self._arguments)
        told = self.event("custom_tool_call_input.delta", delta=text) if text else b""
        return told + self.event("custom_tool_call_input.done", input=text)
