"""What a dialect must offer, so that any client can talk to any model.

Owns the two halves of a dialect (what clients of it send and get, what models that speak it get and send); refuses to
know a particular one. OpenAI's chat completions are the form in between: what one dialect says to a model that speaks
another goes through chat requests, chat answers and chat chunks. Invariant: what a translation cannot say is an
``InvalidRequestError`` that names it, never dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.sse import SseEvent
from metaclaw.fixed import fixed

# What of a request is in its messages, in one dialect or another.
CONVERSATION_KEYS = frozenset(("messages", "input", "instructions", "system", "prompt"))


@fixed
class ClientRequest:
    """A request whose shape was checked. ``body`` is the client's own object; treat it as read-only.

    ``messages`` is the conversation in chat form, by which a caller is identified, things are recalled, and the turn is
    kept; it is made leniently, so that a request that can only be passed through has one too.
    """

    dialect: str
    body: JsonObject
    messages: list[JsonObject]
    model: str
    is_stream: bool
    num_answers: int = 1
    temperature: float | None = None


class ChunkSource(Protocol):
    """A model's stream, event by event, as chunks of OpenAI's chat stream (``chat.completion.chunk`` objects)."""

    is_done: bool  # the answer is complete: its end was announced
    error: JsonObject | None  # of an error event inside the stream

    def add_event(self, event: SseEvent) -> list[JsonObject]:
        """The chunks that ``event`` makes. What makes no sense makes none; never raises."""
        ...


class ChunkSink(Protocol):
    """Chat chunks as a stream of the client's dialect, in server-sent events."""

    def add_chunk(self, chunk: JsonObject) -> bytes:
        """The events that ``chunk`` makes; empty when it makes none yet."""
        ...

    def finish(self) -> bytes:
        """The events that end a complete answer."""
        ...

    def fail(self, error: JsonObject) -> bytes:
        """The event of an answer that breaks off; ``error`` is an error body of this dialect (``http.errors``)."""
        ...


class Dialect(Protocol):
    """One dialect, both halves. Instances have no state; ``chat.dialects.DIALECTS`` has them by name."""

    name: str  # as the journal has it, for example ``openai.chat``
    path: str  # below ``/v1``, for example ``/chat/completions``
    end_marks: tuple[bytes, ...]  # every event that ends a stream holds one of them; others may, in their text

    def parse(self, body: JsonObject) -> ClientRequest:
        """Check ``body`` as far as we rely on it. Raises ``InvalidRequestError`` with the name of the parameter."""
        ...

    def edited(self, request: ClientRequest, *, blocks: Mapping[int, str], dropped: Collection[int] = ()) -> JsonObject:
        """The body in its own dialect, with text attached after the content of some of ``request.messages`` and without
        others. Nothing else changes; keys of ``blocks`` and ``dropped`` are indexes of ``request.messages``."""
        ...

    def to_chat(self, body: JsonObject) -> JsonObject:
        """A request of this dialect as a chat request."""
        ...

    def from_chat(self, body: JsonObject) -> JsonObject:
        """A chat request as a request of this dialect."""
        ...

    def answer_to_chat(self, body: JsonObject) -> JsonObject:
        """A plain answer of this dialect as a ``chat.completion``; lenient, never raises."""
        ...

    def answer_from_chat(self, answer: JsonObject, request: JsonObject) -> JsonObject:
        """A ``chat.completion`` as a plain answer of this dialect to ``request`` (the client's own body)."""
        ...

    def source(self) -> ChunkSource:
        """For a stream of a model that speaks this dialect."""
        ...

    def sink(self, request: JsonObject) -> ChunkSink:
        """For a stream to a client that sent ``request`` (its own body)."""
        ...
