"""The dialect of Anthropic's ``POST /v1/messages``.

Owns the checks of a request, as far as we rely on it; refuses to know the translations, which stand beside it.
Invariant: a key that we do not know is passed on as it came to a model that speaks this dialect too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from metaclaw.chat.anthropic.answers import answer_from_chat, answer_to_chat
from metaclaw.chat.anthropic.conversation import conversation, edited
from metaclaw.chat.anthropic.fields import is_list, is_object, listed, object_in, optional
from metaclaw.chat.anthropic.from_chat import request_from_chat
from metaclaw.chat.anthropic.sink import MessageSink
from metaclaw.chat.anthropic.source import MessageSource
from metaclaw.chat.anthropic.to_chat import request_to_chat
from metaclaw.chat.dialect import ChunkSink, ChunkSource, ClientRequest, Dialect
from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError


class AnthropicMessages:
    """See ``chat.dialect.Dialect``."""

    name = "anthropic.messages"
    path = "/messages"
    end_marks: tuple[bytes, ...] = (b'"message_stop"',)  # quotes within a text are escaped

    def parse(self, body: JsonObject) -> ClientRequest:
        _check_messages(body)
        _check_content(body.get("system"), "system", is_optional=True)
        return ClientRequest(
            dialect=self.name,
            body=body,
            messages=_conversation(body),
            model=optional(body, "model", str, "a string") or "",
            is_stream=optional(body, "stream", bool, "true or false") or False,
            temperature=_temperature(body),
        )

    def edited(self, request: ClientRequest, *, blocks: Mapping[int, str], dropped: Collection[int] = ()) -> JsonObject:
        return edited(request.body, blocks=blocks, dropped=dropped)

    def to_chat(self, body: JsonObject) -> JsonObject:
        return request_to_chat(body)

    def from_chat(self, body: JsonObject) -> JsonObject:
        return request_from_chat(body)

    def answer_to_chat(self, body: JsonObject) -> JsonObject:
        return answer_to_chat(body)

    def answer_from_chat(self, answer: JsonObject, request: JsonObject) -> JsonObject:
        return answer_from_chat(answer, request)

    def source(self) -> ChunkSource:
        return MessageSource()

    def sink(self, request: JsonObject) -> ChunkSink:
        return MessageSink(request)


DIALECT: Dialect = AnthropicMessages()


def _conversation(body: JsonObject) -> list[JsonObject]:
    try:
        return [placed.message for placed in conversation(body)]
    except RecursionError:
        raise InvalidRequestError("messages: the input of a tool is nested too deeply", param="messages") from None


def _temperature(body: JsonObject) -> float | None:
    value = optional(body, "temperature", (int, float), "a number")
    try:
        return None if value is None else float(value)
    except OverflowError:
        raise InvalidRequestError("'temperature' is too large a number", param="temperature") from None


def _check_messages(body: JsonObject) -> None:
    messages = listed(body.get("messages"))
    if not messages:
        raise InvalidRequestError("'messages' must be a list of at least one message", param="messages")
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        if not is_object(message):
            raise InvalidRequestError(f"{param} must be an object", param=param)
        if not isinstance(object_in(message).get("role"), str):
            raise InvalidRequestError(f"{param} has no 'role'", param=f"{param}.role")
        _check_content(object_in(message).get("content"), f"{param}.content")


def _check_content(content: object, param: str, *, is_optional: bool = False) -> None:
    if isinstance(content, str) or (content is None and is_optional):
        return
    if not is_list(content) or not all(is_object(block) for block in listed(content)):
        raise InvalidRequestError(f"{param} must be a string or a list of content blocks", param=param)
