"""Chat chunks as a stream of responses events.

Owns the order of the events; refuses to know the upstream. Invariant: one item is open at a time, every item and part
that was opened is closed, and the last event holds exactly what the deltas made.
"""

from __future__ import annotations

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_list, as_object, as_text, objects_in
from metaclaw.chat.responses.answers import Envelope, status_of, thought_in
from metaclaw.chat.responses.citations import citations_from_chat
from metaclaw.chat.responses.namespaces import own_tool
from metaclaw.chat.responses.open_items import CallItem, MessageItem, OpenItem, ReasoningItem
from metaclaw.chat.responses.writing import EventWriter

_INTERLEAVED: JsonObject = {
    "error": {
        "message": "the model's stream goes back to a tool call that something else followed: it cannot be told here",
        "type": "server_error",
        "code": "server_error",
    }
}


class ResponsesSink:
    """Add chunks in order, then finish or fail."""

    def __init__(self, request: JsonObject) -> None:
        self._request = request
        self._events = EventWriter()
        self._envelope: Envelope | None = None
        self._output: list[JsonObject] = []  # the items that are closed
        self._open: OpenItem | None = None
        self._calls: list[tuple[object, str]] = []  # index and id of the calls that began
        self._finish_reason: str | None = None
        self._usage: JsonObject | None = None
        self._is_over = False

    def add_chunk(self, chunk: JsonObject) -> bytes:
        """The events that ``chunk`` makes."""
        if self._is_over:
            return b""
        made = [self._begin(chunk)]
        self._usage = as_object(chunk.get("usage")) or self._usage
        for choice in objects_in(chunk.get("choices")):
            if choice.get("index", 0) == 0:
                made.append(self._add_delta(as_object(choice.get("delta"))))
                self._finish_reason = as_text(choice.get("finish_reason")) or self._finish_reason
        return b"".join(made)

    def finish(self) -> bytes:
        """The events that end a complete answer."""
        if self._is_over:
            return b""
        made = [self._begin({})]
        status = status_of(self._finish_reason)
        if self._open is None and not any(item["type"] != "reasoning" for item in self._output):
            made.append(self._say("", is_refusal=False))
        elif isinstance(self._open, ReasoningItem):
            made += [self._close(), self._say("", is_refusal=False)]
        made.append(self._close(status))
        made.append(self._end(status))
        return b"".join(made)

    def fail(self, error: JsonObject) -> bytes:
        """The events of an answer that breaks off. SDKs raise the first, other programs wait for the second."""
        if self._is_over:
            return b""
        inner = as_object(error.get("error"))
        message, code = as_text(inner.get("message")), inner.get("code")
        made = [self._begin({}), self._close("incomplete")]
        made.append(self._events.event("error", message=message, code=code, param=inner.get("param"), error=inner))
        made.append(self._end("failed", error={"code": code or "server_error", "message": message}))
        return b"".join(made)

    def _begin(self, chunk: JsonObject) -> bytes:
        if self._envelope is not None:
            return b""
        self._envelope = Envelope.of(chunk, self._request)
        response = self._envelope.response(status="in_progress", output=[])
        return self._events.event("response.created", response=response) + self._events.event(
            "response.in_progress", response=response
        )

    def _end(self, status: str, error: JsonObject | None = None) -> bytes:
        assert self._envelope is not None
        self._is_over = True
        response = self._envelope.response(
            status=status, output=self._output, finish_reason=self._finish_reason, usage=self._usage, error=error
        )
        return self._events.event(f"response.{status}", response=response)

    def _add_delta(self, delta: JsonObject) -> bytes:
        made: list[bytes] = []
        if thought := thought_in(delta):
            made.append(self._think(thought))
        if text := as_text(delta.get("content")):
            made.append(self._say(text, is_refusal=False))
        if refusal := as_text(delta.get("refusal")):
            made.append(self._say(refusal, is_refusal=True))
        for citation in citations_from_chat(delta):
            made.append(self._cite(citation))
        for call in map(as_object, as_list(delta.get("tool_calls"))):
            made.append(self._call(call))
        return b"".join(made)

    def _think(self, text: str) -> bytes:
        made = b""
        if not isinstance(self._open, ReasoningItem):
            made = self._close() + self._start(ReasoningItem(self._request))
        assert isinstance(self._open, ReasoningItem)
        return made + self._open.add(text)

    def _say(self, text: str, *, is_refusal: bool) -> bytes:
        made = b""
        if not isinstance(self._open, MessageItem):
            made = self._close() + self._start(MessageItem())
        assert isinstance(self._open, MessageItem)
        return made + self._open.say(text, is_refusal=is_refusal)

    def _cite(self, citation: JsonObject) -> bytes:
        made = self._say("", is_refusal=False)
        assert isinstance(self._open, MessageItem)
        return made + self._open.cite(citation)

    def _call(self, delta: JsonObject) -> bytes:
        if self._is_over:
            return b""
        function = as_object(delta.get("function"))
        arguments = as_text(function.get("arguments"))
        number = self._number_of(delta)
        made = b""
        if number == len(self._calls):
            tool = own_tool(as_text(function.get("name")), self._request)
            item = CallItem(tool, call_id=as_text(delta.get("id")))
            made = self._close() + self._start(item)
            self._calls.append((delta.get("index"), as_text(delta.get("id"))))
        if number < len(self._calls) - 1 or not isinstance(self._open, CallItem):
            # Its item is closed. Half of a call's arguments must not look like all of them.
            return made + self.fail(_INTERLEAVED) if arguments else made
        return made + self._open.add(arguments)

    def _number_of(self, delta: JsonObject) -> int:
        """Which call goes on; the number of calls when a new one begins."""
        index, call_id = delta.get("index"), as_text(delta.get("id"))
        # An id is surest: some servers give every call the index 0, others omit it.
        for number, (_, known_id) in enumerate(self._calls):
            if call_id and known_id == call_id:
                return number
        if call_id or not self._calls:
            return len(self._calls)
        if not isinstance(index, int):
            return len(self._calls) - 1
        same = [number for number, (known, _) in enumerate(self._calls) if known == index]
        return same[-1] if same else len(self._calls)

    def _start(self, item: OpenItem) -> bytes:
        assert self._envelope is not None
        self._open = item
        return item.begin(self._envelope, self._events, len(self._output))

    def _close(self, status: str = "completed") -> bytes:
        if self._open is None:
            return b""
        closing, item = self._open.close(status)
        self._output.append(item)
        self._open = None
        return closing
