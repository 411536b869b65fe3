"""How the bytes of a streamed answer go from a model to a client.

Owns the two ways: unchanged, where the model speaks the client's dialect, and translated by way of chat chunks; refuses
to know transport and recording. Invariant: whole events are passed on as soon as they are here, unchanged bytes or an
equal translation, and nothing after the event that ends the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from metaclaw.chat.chat_stream import ChatSink, choices_of
from metaclaw.chat.dialect import ChunkSink, ChunkSource, Dialect
from metaclaw.chat.dialects import CHAT
from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.chat.reading import as_count, as_text
from metaclaw.chat.sse import SseEvent, SseParser, last_boundary
from metaclaw.chat.stream_assembler import StreamAssembler
from metaclaw.chat.think_filter import ThinkFilter, may_open_thinking, opens_thinking
from metaclaw.http.errors import Dialect as ErrorDialect
from metaclaw.http.errors import error_body
from metaclaw.journal.turns import RawAnswer

_ERROR = b'"error"'
_STILL_THERE = b": the model is at it\n\n"
_NOT_TEXT = ("tool_calls", "function_call", "reasoning_content", "reasoning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a stream so far. One of ``raw`` and ``answer`` is what the journal keeps of it."""

    is_done: bool
    error: JsonObject | None
    raw: RawAnswer | None = None
    answer: ChatAnswer | None = None


class Passage(Protocol):
    """Feed it what the model sends; it says what the client gets."""

    @property
    def has_end(self) -> bool:
        """Whether the event that ends the stream was fed."""
        ...

    def feed(self, chunk: bytes) -> bytes: ...

    def finish(self) -> bytes:
        """The model's stream is over: what is left."""
        ...

    def fail(self, error: JsonObject) -> bytes:
        """The event that tells the client of a broken answer."""
        ...

    def outcome(self) -> Outcome: ...


class Unchanged:
    """The model's own bytes, looked into only for the end of the stream."""

    def __init__(self, dialect: Dialect, request: JsonObject, content_type: str) -> None:
        self._dialect = dialect
        self._end_marks = dialect.end_marks
        self._request = request
        self._content_type = content_type
        self._passed: list[bytes] = []
        self._held = bytearray()  # of an event that is not complete; a large one comes in hundreds of pieces
        self.has_end = False

    def feed(self, chunk: bytes) -> bytes:
        if held := self._held:
            num_held = len(held)
            held += chunk
            end = last_boundary(held, num_held)
            whole = bytes(held[:end])
            del held[:end]
        else:
            end = last_boundary(chunk)
            whole = chunk[:end]
            held += chunk[end:]
        if not whole:
            return b""
        self._passed.append(whole)
        for mark in self._end_marks:
            if mark in whole:
                self._look_for_end(whole)
                break
        return whole

    def _look_for_end(self, whole: bytes) -> None:
        # The end is an event of its own: the others of a large piece need not be read.
        mark = max(whole.rfind(mark) for mark in self._end_marks)
        self.has_end = _read(self._dialect, whole[last_boundary(whole[:mark]) :]).is_done

    def finish(self) -> bytes:
        rest, self._held = bytes(self._held), bytearray()
        if rest:
            self._passed.append(rest)
        return rest

    def fail(self, error: JsonObject) -> bytes:
        return self._dialect.sink(self._request).fail(error)

    def outcome(self) -> Outcome:
        # The whole stream is read only now, and only where its end does not say enough.
        raw = RawAnswer(dialect=self._dialect.name, content_type=self._content_type, body=self.passed())
        # Where an error ends a stream as well, the other end says that there was none.
        if self.has_end and (_ERROR in self._dialect.end_marks or _ERROR not in raw.body):
            return Outcome(is_done=True, error=None, raw=raw)
        source = _read(self._dialect, raw.body)
        return Outcome(is_done=source.is_done, error=source.error, raw=raw)

    def passed(self) -> bytes:
        """What the client has by now."""
        return b"".join(self._passed)


class Translated:
    """The model's events as chat chunks, cleaned of what is ours alone, as events of the client's dialect.

    What says nothing, as the pings of a model that thinks for minutes, is a comment for the client: whoever stands
    between ends a connection on which nothing comes.
    """

    def __init__(self, upstream: Dialect, sink: ChunkSink, errors: ErrorDialect) -> None:
        self._errors: ErrorDialect = errors
        self._end_marks = upstream.end_marks
        self._parser = SseParser()
        self._source = upstream.source()
        self._sink = sink
        self._filter = ThinkFilter()
        self._assembler = StreamAssembler()
        self.has_end = False

    def feed(self, chunk: bytes) -> bytes:
        return self._add(self._parser.feed(chunk))

    def finish(self) -> bytes:
        out = self._add(self._parser.finish())
        if (error := self._source.error) is not None:
            message = str(error.get("message") or error)
            return out + self._sink.fail(error_body(self._errors, status=502, message=message, code="upstream_error"))
        return out + self._sink.finish() if self._source.is_done else out

    def fail(self, error: JsonObject) -> bytes:
        return self._sink.fail(error)

    def outcome(self) -> Outcome:
        return Outcome(is_done=self._source.is_done, error=self._source.error, answer=self._assembler.answer())

    def _add(self, events: Sequence[SseEvent]) -> bytes:
        out = b""
        is_silent = bool(events)
        for event in events:
            chunks = self._source.add_event(event)
            is_silent = is_silent and not chunks
            out += b"".join(map(self._translated, chunks))
            # A finish reason is not the end: usage and the policy record follow it.
            if self._source.is_done and any(mark in event.raw for mark in self._end_marks):
                self.has_end = True
        is_over = self.has_end or self._source.error is not None
        return _STILL_THERE if is_silent and not is_over else out

    def _translated(self, chunk: JsonObject) -> bytes:
        out = b""
        for cleaned in self._filter.add(chunk):
            self._assembler.add(cleaned)
            shown = {key: value for key, value in cleaned.items() if key != "policy_record"}
            if shown.get("choices") or shown.get("usage"):
                out += self._sink.add_chunk(shown)
        return out


class ThoughtFree:
    """Chat before chat: unchanged, unless the answer begins with a think block, which is then taken out."""

    def __init__(self, request: JsonObject, content_type: str) -> None:
        self._request = request
        self._parser = SseParser()
        self._held: list[SseEvent] = []
        self._begun: dict[int, str] = {}  # by choice, while it may yet open
        self._plain: set[int] = set()  # the choices that do not begin with one
        self._num_choices = max(1, as_count(request.get("n")))
        self._chosen: Unchanged | Translated = Unchanged(CHAT, request, content_type)
        self._is_settled = False

    @property
    def has_end(self) -> bool:
        return self._chosen.has_end

    def feed(self, chunk: bytes) -> bytes:
        return self._chosen.feed(chunk) if self._is_settled else self._look(self._parser.events(chunk))

    def finish(self) -> bytes:
        out = b""
        if not self._is_settled:
            out = self._look(self._parser.finish())
            out += self._pass_held()
        return out + self._chosen.finish()

    def fail(self, error: JsonObject) -> bytes:
        return self._chosen.fail(error)

    def outcome(self) -> Outcome:
        return self._chosen.outcome()

    def _look(self, events: Iterable[SseEvent]) -> bytes:
        out = b""
        for event in events:
            self._held.append(event)
            for chunk in CHAT.source().add_event(event):
                for choice in choices_of(chunk):
                    self._read(choice)
            is_thinking = any(map(opens_thinking, self._begun.values()))
            if is_thinking:
                self._take_thinking_out()
            if is_thinking or len(self._plain) >= self._num_choices:
                self._is_settled = True
                return out + self._pass_held() + self._chosen.feed(self._parser.rest())
            if not any(self._begun.values()):
                out += self._pass_held()
        return out

    def _read(self, choice: JsonObject) -> None:
        index = as_count(choice.get("index"))
        if index in self._plain:
            return
        delta = object_or_none(choice.get("delta")) or {}
        begun = self._begun.pop(index, "") + as_text(delta.get("content"))
        is_over = choice.get("finish_reason") or any(delta.get(key) for key in _NOT_TEXT)
        if opens_thinking(begun) or (may_open_thinking(begun) and not is_over):
            self._begun[index] = begun
        else:
            self._plain.add(index)

    def _take_thinking_out(self) -> None:
        translated = Translated(CHAT, ChatSink(), "openai")  # what a model sends unasked stays
        if isinstance(self._chosen, Unchanged):
            translated.feed(self._chosen.passed())  # for the journal; the client has it
        self._chosen = translated

    def _pass_held(self) -> bytes:
        held, self._held = self._held, []
        return self._chosen.feed(b"".join(event.raw for event in held))


def passage(
    client: Dialect, upstream: Dialect, request: JsonObject, content_type: str, *, errors: ErrorDialect, is_policy: bool
) -> Passage:
    """The way of a stream from a model that speaks ``upstream`` to a client that speaks ``client``.

    ``errors`` is the shape in which the client knows errors.
    """
    if client.name != upstream.name or is_policy:
        return Translated(upstream, client.sink(request), errors)
    if client.name == CHAT.name:
        return ThoughtFree(request, content_type)
    return Unchanged(client, request, content_type)


def _read(dialect: Dialect, body: bytes) -> ChunkSource:
    source, parser = dialect.source(), SseParser()
    for event in [*parser.feed(body), *parser.finish()]:
        source.add_event(event)
    return source
