"""OpenAI's responses, as the gateway's other dialects are.

Owns the two halves put together, and where text is attached to a request; refuses to know the translation of each
piece. Invariant: an edited body differs from the client's only in what was attached and left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from metaclaw.chat.dialect import ChunkSink, ChunkSource, ClientRequest
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_list, as_object, is_list
from metaclaw.chat.responses import answers, requests
from metaclaw.chat.responses.conversation import conversation_of
from metaclaw.chat.responses.sink import ResponsesSink
from metaclaw.chat.responses.source import ResponsesSource
from metaclaw.errors import InvalidRequestError


class ResponsesDialect:
    """``POST /v1/responses``."""

    name = requests.NAME
    path = "/responses"
    end_marks: tuple[bytes, ...] = (b"response.completed", b"response.incomplete", b"response.failed", b'"error"')

    def parse(self, body: JsonObject) -> ClientRequest:
        return requests.parse(body)

    def edited(self, request: ClientRequest, *, blocks: Mapping[int, str], dropped: Collection[int] = ()) -> JsonObject:
        body = dict(request.body)
        placed = conversation_of(body).placed
        items: dict[int, object] = dict(enumerate(as_list(body.get("input"))))
        for index, text in blocks.items():
            place = placed[index].items
            if not place:
                body["instructions"] = f"{body['instructions']}\n\n{text}"
            elif not items:
                body["input"] = f"{body['input']}\n\n{text}"
            else:
                items[place[-1]] = attached(as_object(items[place[-1]]), text)
        for index in dropped:
            place = placed[index].items
            if not place:
                del body["instructions"]
            elif not items:
                body["input"] = []
            for item in place:
                items.pop(item, None)
        if is_list(body.get("input")):
            body["input"] = list(items.values())
        return body

    def to_chat(self, body: JsonObject) -> JsonObject:
        return requests.to_chat(body)

    def from_chat(self, body: JsonObject) -> JsonObject:
        return requests.from_chat(body)

    def answer_to_chat(self, body: JsonObject) -> JsonObject:
        return answers.answer_to_chat(body)

    def answer_from_chat(self, answer: JsonObject, request: JsonObject) -> JsonObject:
        return answers.answer_from_chat(answer, request)

    def source(self) -> ChunkSource:
        return ResponsesSource()

    def sink(self, request: JsonObject) -> ChunkSink:
        return ResponsesSink(request)


def attached(item: JsonObject, text: str) -> JsonObject:
    """A copy of ``item`` with ``text`` after its content, in the form that the content has."""
    name = "output" if "output" in item else "content"
    content = item.get(name)
    if isinstance(content, str):
        return {**item, name: f"{content}\n\n{text}"}
    if not is_list(content):
        raise InvalidRequestError(f"an item of type {item.get('type')!r:.40} has no content that text could follow")
    kind = "output_text" if item.get("role") == "assistant" else "input_text"
    return {**item, name: [*content, {"type": kind, "text": text}]}
