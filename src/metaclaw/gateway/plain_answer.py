"""An answer that comes whole, between dialects.

Owns turning it into what the client asked for, a plain answer or a stream; refuses to know transport and recording.
Invariant: an answer in the client's own dialect, of the kind that it asked for and without a think block, is passed on
byte for byte.

Servers that speak chat are many, and some stream or do not whatever they are asked. OpenRouter says with status 200
that a provider failed: no SDK sees that it is an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic_core import from_json

from metaclaw.chat.chat_stream import choices_of
from metaclaw.chat.completion_chunks import joined_logprobs
from metaclaw.chat.dialect import ClientRequest, Dialect
from metaclaw.chat.dialects import CHAT
from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.chat.openai_chat import ChatAnswer, parse_answer
from metaclaw.chat.reading import as_count, objects_in, without, writable
from metaclaw.chat.sse import SseEvent, SseParser
from metaclaw.chat.stream_assembler import StreamAssembler
from metaclaw.chat.think_filter import without_think_block
from metaclaw.chat.whole import answer_of, stream_of
from metaclaw.errors import UpstreamError
from metaclaw.fixed import fixed
from metaclaw.journal.turns import RawAnswer
from metaclaw.upstreams.failed_answers import error_in, status_of

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"
_OPENS_THINKING = b"<think>"


@fixed
class PlainAnswer:
    """What the client gets, and what the journal keeps: one of ``raw`` and ``answer``."""

    body: bytes
    content_type: str
    raw: RawAnswer | None = None
    answer: ChatAnswer | None = None


def plain_answer(
    body: bytes, content_type: str, *, request: ClientRequest, client: Dialect, upstream: Dialect, name: str
) -> PlainAnswer:
    """The model's whole answer for the client. Raises ``UpstreamError`` when it is no answer at all."""
    raw = RawAnswer(dialect=upstream.name, content_type=content_type, body=body)
    is_events, is_own = content_type.startswith("text/event-stream"), client.name == upstream.name
    if is_events:
        events = _events(body)
        parsed = _folded(events, upstream, name)
        if parsed is not None and is_own and (own := answer_of(upstream.name, events)) is not None:
            return PlainAnswer(body=_encoded(own), content_type=JSON, raw=raw)
        is_own = False
    else:
        parsed = _object(body)
    if parsed is None:
        raise UpstreamError(f"{name} answered with something that is not a JSON object", status=502)
    if (error := error_in(parsed)) is not None:
        raise _failure(name, error)
    must_be_read = "policy_record" in parsed or (upstream is CHAT and (request.is_stream or _OPENS_THINKING in body))
    if is_own and not must_be_read:
        own = _own_stream(parsed, upstream, name) if request.is_stream else None
        if own is not None:
            return PlainAnswer(body=own, content_type=EVENTS, raw=raw)
        return PlainAnswer(body=body, content_type=content_type, raw=raw)
    if not is_own and (error := object_or_none(parsed.get("error"))) is not None:
        raise _failure(name, error)
    chat = without_think_block(parsed if is_events else upstream.answer_to_chat(parsed))
    answer = parse_answer(chat)
    shown = {key: value for key, value in chat.items() if key != "policy_record"}
    if request.is_stream:
        return PlainAnswer(body=_streamed(shown, client, request.body), content_type=EVENTS, answer=answer)
    plain = client.answer_from_chat(shown, request.body)
    return PlainAnswer(body=_encoded(plain), content_type=JSON, answer=answer)


def _failure(name: str, said: JsonObject) -> UpstreamError:
    detail = {key: writable(value) for key, value in said.items() if isinstance(value, str)}
    words = writable(str(said.get("message") or said))
    return UpstreamError(f"{name} failed: {words}", status=status_of(said), detail=detail, said=words)


def _own_stream(parsed: JsonObject, dialect: Dialect, name: str) -> bytes | None:
    """The stream of a whole answer for a client that asked for one; ``None`` when it is no answer that is known."""
    if error := object_or_none(parsed.get("error")):
        raise _failure(name, error)
    return stream_of(dialect.name, parsed)


def _streamed(answer: JsonObject, client: Dialect, request: JsonObject) -> bytes:
    """A whole answer for a client that asked for a stream and would not understand anything else."""
    sink = client.sink(request)
    frame = {**without(answer, "choices", "usage"), "object": "chat.completion.chunk"}
    out = b""
    for choice in choices_of(answer):
        index = choice.get("index", 0)
        message = dict(object_or_none(choice.get("message")) or {})
        if message.get("tool_calls"):
            calls = enumerate(objects_in(message["tool_calls"]))
            message["tool_calls"] = [{**call, "index": number} for number, call in calls]
        said = {**without(choice, "message"), "index": index, "delta": message, "finish_reason": None}
        out += sink.add_chunk({**frame, "choices": [said]})
        reason = choice.get("finish_reason") or "stop"
        out += sink.add_chunk({**frame, "choices": [{"index": index, "delta": {}, "finish_reason": reason}]})
    if usage := object_or_none(answer.get("usage")):
        out += sink.add_chunk({**frame, "choices": [], "usage": usage})
    return out + sink.finish()


def _events(body: bytes) -> list[SseEvent]:
    parser = SseParser()
    return [*parser.feed(body), *parser.finish()]


def _folded(events: Sequence[SseEvent], upstream: Dialect, name: str) -> JsonObject | None:
    """A stream that nobody asked for, as the chat answer that it makes; ``None`` when it has no end."""
    source, assembler = upstream.source(), StreamAssembler()
    frame, logprobs = JsonObject(), dict[int, JsonObject | None]()
    for event in events:
        for chunk in source.add_event(event):
            frame = frame or {key: chunk.get(key) for key in ("id", "created", "model")}
            assembler.add(chunk)
            for choice in choices_of(chunk):
                if told := choice.get("logprobs"):
                    index = as_count(choice.get("index"))
                    logprobs[index] = joined_logprobs(logprobs.get(index), told)
    if source.error is not None:
        raise _failure(name, source.error)
    if not source.is_done:
        return None
    answer = assembler.answer()
    first = {"message": answer.message or {}, "finish_reason": answer.finish_reason or "stop"}
    choices = [
        {"index": index, **choice, **({"logprobs": logprobs[index]} if index in logprobs else {})}
        for index, choice in enumerate((first, *answer.others))
    ]
    return {**frame, "object": "chat.completion", "choices": choices, "usage": answer.usage}


def _encoded(body: JsonObject) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _object(body: bytes) -> JsonObject | None:
    try:  # a fifth of the time, but not for half a surrogate pair
        return object_or_none(from_json(body))
    except ValueError:
        pass
    try:
        return object_or_none(json.loads(body))
    except (ValueError, RecursionError):
        return None
