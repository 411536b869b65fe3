"""OpenAI's embeddings.

Owns their name and their place; refuses to know what is embedded. Invariant: nothing is translated, and nothing of the
input is a conversation: no messages, so there is nothing to recall for and nothing to learn from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NoReturn

from metaclaw.chat.chat_stream import ChatSink, ChatSource
from metaclaw.chat.checks import text_in
from metaclaw.chat.dialect import ChunkSink, ChunkSource, ClientRequest
from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError

NAME = "openai.embeddings"


class Embeddings:
    """``POST /v1/embeddings``."""

    name = NAME
    path = "/embeddings"
    end_marks: tuple[bytes, ...] = (b"[DONE]",)

    def parse(self, body: JsonObject) -> ClientRequest:
        if body.get("input") is None:
            raise InvalidRequestError("'input' is missing: a string, or a list of strings or tokens", param="input")
        return ClientRequest(dialect=NAME, body=body, messages=[], model=text_in(body, "model"), is_stream=False)

    def edited(self, request: ClientRequest, *, blocks: Mapping[int, str], dropped: Collection[int] = ()) -> JsonObject:
        del blocks, dropped  # there are no messages
        return request.body

    def to_chat(self, body: JsonObject) -> JsonObject:
        del body
        raise _untranslatable()

    def from_chat(self, body: JsonObject) -> JsonObject:
        del body
        raise _untranslatable()

    def answer_to_chat(self, body: JsonObject) -> JsonObject:
        """The vectors are no answer to keep; what they cost is."""
        return {**body, "object": "chat.completion", "data": [], "choices": []}

    def answer_from_chat(self, answer: JsonObject, request: JsonObject) -> NoReturn:
        del answer, request
        raise _untranslatable()

    def source(self) -> ChunkSource:
        return ChatSource()  # nobody streams vectors; whoever does can only say that it failed

    def sink(self, request: JsonObject) -> ChunkSink:
        del request
        return ChatSink()


def _untranslatable() -> InvalidRequestError:
    return InvalidRequestError(
        "the model behind this gateway speaks chat, which gives no embeddings: ask a model that does"
    )
