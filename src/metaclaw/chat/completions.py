"""OpenAI's legacy text completions.

Owns their requests, answers and streams; refuses to know what a prompt means. Invariant: a prompt is translated only
when a chat model would be told the same: one string that is answered, not continued, completed in the middle or
measured.

The model goes on where the prompt ends, so what is recalled stands before the prompt; after it, it would be what is
continued.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from metaclaw.chat.chat_stream import ChatSource
from metaclaw.chat.checks import flag_in, num_answers_in, number_in, text_in
from metaclaw.chat.dialect import ChunkSink, ChunkSource, ClientRequest
from metaclaw.chat.messages import JsonObject, text_of
from metaclaw.chat.reading import as_object, as_text, is_list, objects_in, without
from metaclaw.chat.sse import DONE, SseEvent, encode_event
from metaclaw.errors import InvalidRequestError

NAME = "openai.completions"

# What chat cannot say, and the values that ask for nothing.
_NOT_IN_CHAT: dict[str, tuple[object, ...]] = {"suffix": ("",), "echo": (False,), "logprobs": (), "best_of": (1,)}
_FINISH_REASONS = ("stop", "length", "content_filter")


class Completions:
    """``POST /v1/completions``."""

    name = NAME
    path = "/completions"
    end_marks: tuple[bytes, ...] = (b"[DONE]",)

    def parse(self, body: JsonObject) -> ClientRequest:
        if not isinstance(body.get("prompt"), str | list):
            raise InvalidRequestError("'prompt' must be a string or a list", param="prompt")
        prompt = _one_prompt(body)
        return ClientRequest(
            dialect=NAME,
            body=body,
            messages=[] if prompt is None else [{"role": "user", "content": prompt}],
            model=text_in(body, "model"),
            is_stream=flag_in(body, "stream"),
            num_answers=num_answers_in(body),
            temperature=number_in(body, "temperature"),
        )

    def edited(self, request: ClientRequest, *, blocks: Mapping[int, str], dropped: Collection[int] = ()) -> JsonObject:
        del dropped  # there is one message, which is the question
        prompt = _one_prompt(request.body)
        if not blocks or prompt is None:
            return request.body
        return {**request.body, "prompt": "\n\n".join([*blocks.values(), prompt])}

    def to_chat(self, body: JsonObject) -> JsonObject:
        for name, harmless in _NOT_IN_CHAT.items():
            if body.get(name) is not None and body[name] not in harmless:
                raise InvalidRequestError(
                    f"{name!r} cannot be had: the model behind this gateway speaks chat completions, which lack it",
                    param=name,
                )
        prompt = _one_prompt(body)
        if prompt is None:
            raise InvalidRequestError(
                "'prompt' must be one string: the model behind this gateway speaks chat completions, which take neither"
                " several prompts nor tokens",
                param="prompt",
            )
        chat = without(body, "prompt", "stream_options", *_NOT_IN_CHAT)
        chat["messages"] = [{"role": "user", "content": prompt}]
        if body.get("stream"):
            chat["stream_options"] = {"include_usage": True}
        return chat

    def from_chat(self, body: JsonObject) -> JsonObject:
        del body
        raise InvalidRequestError(
            "the model behind this gateway only completes text: it takes no chat messages; use /v1/completions"
        )

    def answer_to_chat(self, body: JsonObject) -> JsonObject:
        choices = [
            {
                "index": choice.get("index", 0),
                "message": {"role": "assistant", "content": as_text(choice.get("text"))},
                "finish_reason": choice.get("finish_reason"),
            }
            for choice in objects_in(body.get("choices"))
        ]
        return {**body, "object": "chat.completion", "choices": choices}

    def answer_from_chat(self, answer: JsonObject, request: JsonObject) -> JsonObject:
        del request
        choices = [_choice(choice, as_object(choice.get("message"))) for choice in objects_in(answer.get("choices"))]
        return {**answer, "object": "text_completion", "choices": choices}

    def source(self) -> ChunkSource:
        return _Source()

    def sink(self, request: JsonObject) -> ChunkSink:
        return _Sink(wants_usage=bool(as_object(request.get("stream_options")).get("include_usage")))


class _Source(ChatSource):
    """The events end, fail and finish as chat's do; only what a choice says has another place."""

    def add_event(self, event: SseEvent) -> list[JsonObject]:
        return [_as_chunk(body) for body in super().add_event(event) if body]


def _as_chunk(body: JsonObject) -> JsonObject:
    choices = [
        {
            "index": choice.get("index", 0),
            "delta": {"role": "assistant", "content": as_text(choice.get("text"))},
            "finish_reason": choice.get("finish_reason"),
        }
        for choice in objects_in(body.get("choices"))
    ]
    return {**body, "object": "chat.completion.chunk", "choices": choices}


class _Sink:
    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage

    def add_chunk(self, chunk: JsonObject) -> bytes:
        choices = [
            _choice(choice, as_object(choice.get("delta")))
            for choice in objects_in(chunk.get("choices"))
            if choice.get("finish_reason") or _says_something(as_object(choice.get("delta")))
        ]
        if not choices and not (self._wants_usage and chunk.get("usage")):
            return b""
        kept = chunk if self._wants_usage else without(chunk, "usage")
        return encode_event(
            json.dumps({**kept, "object": "text_completion", "choices": choices}, separators=(",", ":"))
        )

    def finish(self) -> bytes:
        return encode_event(DONE)

    def fail(self, error: JsonObject) -> bytes:
        return encode_event(json.dumps(error))


def _choice(choice: JsonObject, said: JsonObject) -> JsonObject:
    reason = choice.get("finish_reason")
    text: JsonObject = {
        "index": choice.get("index", 0),
        "text": text_of(said.get("content")),
        "logprobs": None,
        "finish_reason": reason if reason is None or reason in _FINISH_REASONS else "stop",
    }
    if thought := as_text(said.get("reasoning_content")):
        text["reasoning_content"] = thought
    return text


def _says_something(delta: JsonObject) -> bool:
    return bool(text_of(delta.get("content")) or as_text(delta.get("reasoning_content")))


def _one_prompt(body: JsonObject) -> str | None:
    """The prompt when it is one string. Several are no conversation, and tokens are no text."""
    prompt: object = body.get("prompt")
    if is_list(prompt) and len(prompt) == 1:
        prompt = prompt[0]
    return prompt if isinstance(prompt, str) else None
