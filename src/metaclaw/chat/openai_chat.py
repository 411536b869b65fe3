"""OpenAI's chat completions: requests, plain answers, and the dialect itself.

Owns their shape as far as we rely on it; refuses to know what a provider adds. Invariant: a key that we do not know
is passed on as it came. As the form between all dialects, it translates to and from itself by doing nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

from metaclaw.chat.chat_stream import ChatSink, ChatSource
from metaclaw.chat.checks import flag_in, num_answers_in, number_in, text_in
from metaclaw.chat.dialect import ChunkSink, ChunkSource, ClientRequest
from metaclaw.chat.messages import JsonObject, object_or_none, text_or_none
from metaclaw.errors import InvalidRequestError
from metaclaw.fixed import fixed

NAME = "openai.chat"


@fixed
class ChatAnswer:
    """What a turn came to, of the first choice. ``others`` are the further ones: messages and finish reasons."""

    message: JsonObject | None
    finish_reason: str | None
    usage: JsonObject | None
    policy_record: JsonObject | None = None
    others: tuple[JsonObject, ...] = ()
    model: str | None = None  # as the answer names it

    @property
    def messages(self) -> list[JsonObject]:
        """What it and the further ones say."""
        return [said for said in (self.message, *(other["message"] for other in self.others)) if said is not None]


def parse_request(body: JsonObject) -> ClientRequest:
    """Check ``body``; raises ``InvalidRequestError`` with the name of the parameter."""
    return ClientRequest(
        dialect=NAME,
        body=body,
        messages=_messages(body.get("messages")),
        model=text_in(body, "model"),
        is_stream=flag_in(body, "stream"),
        num_answers=num_answers_in(body),
        temperature=number_in(body, "temperature"),
    )


def parse_answer(body: Mapping[str, Any]) -> ChatAnswer:
    """What a plain (not streamed) answer says, as far as it can be understood."""
    listed: object = body.get("choices")
    choices = [
        cast(JsonObject, choice) if isinstance(choice, dict) else {}
        for choice in (cast(list[object], listed) if isinstance(listed, list) else [])
    ]
    first, *others = choices or [{}]
    return ChatAnswer(
        message=object_or_none(first.get("message")),
        finish_reason=text_or_none(first.get("finish_reason")),
        usage=object_or_none(body.get("usage")),
        policy_record=object_or_none(body.get("policy_record")),
        others=tuple(
            {"message": object_or_none(other.get("message")), "finish_reason": text_or_none(other.get("finish_reason"))}
            for other in others
        ),
        model=text_or_none(body.get("model")),
    )


def attach(message: JsonObject, text: str) -> JsonObject:
    """A copy of ``message`` with ``text`` after its content, in the form that the content has."""
    content: object = message.get("content")
    if isinstance(content, list):
        return {**message, "content": [*cast(list[object], content), {"type": "text", "text": text}]}
    return {**message, "content": f"{content}\n\n{text}"}


class OpenAIChat:
    """The dialect of ``POST /v1/chat/completions``."""

    name = NAME
    path = "/chat/completions"
    end_marks: tuple[bytes, ...] = (b"[DONE]",)

    def parse(self, body: JsonObject) -> ClientRequest:
        return parse_request(body)

    def edited(self, request: ClientRequest, *, blocks: Mapping[int, str], dropped: Collection[int] = ()) -> JsonObject:
        kept = [index for index in range(len(request.messages)) if index not in dropped]
        messages = [
            attach(request.messages[index], blocks[index]) if index in blocks else request.messages[index]
            for index in kept
        ]
        return {**request.body, "messages": messages}

    def to_chat(self, body: JsonObject) -> JsonObject:
        return body

    def from_chat(self, body: JsonObject) -> JsonObject:
        return body

    def answer_to_chat(self, body: JsonObject) -> JsonObject:
        return body

    def answer_from_chat(self, answer: JsonObject, request: JsonObject) -> JsonObject:
        del request
        return answer

    def source(self) -> ChunkSource:
        return ChatSource()

    def sink(self, request: JsonObject) -> ChunkSink:
        options = object_or_none(request.get("stream_options")) or {}
        return ChatSink(wants_usage=bool(options.get("include_usage")))


def _messages(value: object) -> list[JsonObject]:
    if not isinstance(value, list) or not value:
        raise InvalidRequestError("'messages' must be a list of at least one message", param="messages")
    messages = cast(list[object], value)
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequestError(f"messages[{index}] must be an object", param=f"messages[{index}]")
        if not isinstance(cast(JsonObject, message).get("role"), str):
            raise InvalidRequestError(f"messages[{index}] has no 'role'", param=f"messages[{index}].role")
    return cast(list[JsonObject], messages)
