"""Chat chunks as a stream of responses events.

Owns the order of the events; refuses to know the upstream. Invariant: one item is open at a time, but for calls whose
arguments are not whole yet (a model may go on with one after it began another); every item and part that was opened is
closed, and the last event holds exactly what the deltas made.
"""

from __future__ import annotations

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_list, as_object, as_text, objects_in
from metaclaw.chat.responses.answers import Envelope, sealed_in, status_of, thought_in
from metaclaw.chat.responses.citations import citations_from_chat
from metaclaw.chat.responses.namespaces import own_tool
from metaclaw.chat.responses.open_items import CallItem, MessageItem, ReasoningItem
from metaclaw.chat.responses.writing import EventWriter
from metaclaw.chat.streamed_calls import CallNumbers, arguments_in

_GOES_ON: JsonObject = {
    "error": {
        "message": "the model's stream goes on with the arguments of a tool call that were complete",
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
        self._num_begun = 0  # items
        self._closed: dict[int, JsonObject] = {}  # the items that are, by their place
        self._open: MessageItem | ReasoningItem | None = None
        self._calls: list[CallItem] = []
        self._numbers = CallNumbers()
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
        only_thought = not self._calls and all(item["type"] == "reasoning" for item in self._output)
        if isinstance(self._open, ReasoningItem) or (self._open is None and only_thought):
            made.append(self._say("", is_refusal=False))
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
        for block in sealed_in(delta, self._request):
            made.append(self._think(""))
            assert isinstance(self._open, ReasoningItem)
            self._open.seal(block)
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
            made = self._start(ReasoningItem(self._request))
        assert isinstance(self._open, ReasoningItem)
        return made + self._open.add(text) if text else made

    def _say(self, text: str, *, is_refusal: bool) -> bytes:
        made = b""
        if not isinstance(self._open, MessageItem):
            made = self._start(MessageItem())
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
        arguments, number, made = arguments_in(function), self._numbers.of(delta), b""
        if number == len(self._calls):
            begun = CallItem(own_tool(as_text(function.get("name")), self._request), call_id=as_text(delta.get("id")))
            made = self._start(begun)
            self._calls.append(begun)
        call = self._calls[number]
        if call.is_closed:
            # Half of a call's arguments must not look like all of them.
            return made + self.fail(_GOES_ON) if arguments.strip() else made
        return made + call.add(arguments)

    def _start(self, item: MessageItem | ReasoningItem | CallItem) -> bytes:
        """Begin ``item`` once what it follows is closed: all but calls that are not whole yet."""
        assert self._envelope is not None
        made = self._close_said() + self._close_calls(only_whole=True)
        if not isinstance(item, CallItem):
            self._open = item
        self._num_begun += 1
        return made + item.begin(self._envelope, self._events, self._num_begun - 1)

    def _close(self, status: str = "completed") -> bytes:
        return self._close_said(status) + self._close_calls(status)

    def _close_said(self, status: str = "completed") -> bytes:
        if self._open is None:
            return b""
        closing, self._closed[self._open.index] = self._open.close(status)
        self._open = None
        return closing

    def _close_calls(self, status: str = "completed", *, only_whole: bool = False) -> bytes:
        made = b""
        for call in self._calls:
            if not call.is_closed and (call.is_whole or not only_whole):
                closing, self._closed[call.index] = call.close(status)
                made += closing
        return made

    @property
    def _output(self) -> list[JsonObject]:
        return [self._closed[place] for place in sorted(self._closed)]
