"""The parts of a message's content, both ways.

Owns how texts, images, files and sounds are written in an input of responses and in a chat message; refuses to know
roles and items. Invariant: a part that the other side has no form for is a ``Problem``, and keys that we do not know
stay on the part.
"""

from __future__ import annotations

from collections.abc import Callable

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_object, as_text, is_list, without
from metaclaw.errors import InvalidRequestError

Problem = InvalidRequestError
Content = str | list[JsonObject]

_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_OF_AN_ANSWER = ("annotations", "logprobs")  # what a model said of its own text; clients send it back as it came


def content_to_chat(content: object, where: str, problems: list[Problem]) -> Content | None:
    """A content of responses as that of a chat message; what has no form there is left out and goes to ``problems``."""
    if not is_list(content):
        return as_text(content) if content is not None else None
    parts: list[JsonObject] = []
    for index, part in enumerate(content):
        try:
            parts.append(part_to_chat(as_object(part), f"{where}[{index}]"))
        except InvalidRequestError as problem:
            problems.append(problem)
    return parts


def part_to_chat(part: JsonObject, where: str) -> JsonObject:
    """One part. Raises ``InvalidRequestError``."""
    kind = part.get("type")
    if kind in _TEXTS:
        return {**without(part, *_OF_AN_ANSWER), "type": "text"}
    if kind == "input_image":
        return _image_to_chat(part, where)
    if kind == "input_file":
        return _file_to_chat(part, where)
    if kind == "input_audio":
        return part
    raise InvalidRequestError(f"{where}: a chat model takes no part of type {kind!r:.40}", param=where)


def content_from_chat(content: object, where: str, *, text_type: str = "input_text") -> Content:
    """A chat message's content as one of responses. Raises ``InvalidRequestError``."""
    if content is None or isinstance(content, str):
        return content or ""
    if not is_list(content):
        raise InvalidRequestError(f"{where} must be a string or a list of parts", param=where)
    return [_part_from_chat(part, f"{where}[{index}]", text_type) for index, part in enumerate(content)]


def _image_to_chat(part: JsonObject, where: str) -> JsonObject:
    url = part.get("image_url")
    if not isinstance(url, str):
        raise InvalidRequestError(
            f"{where}: a chat model takes an image by 'image_url' (an address or a data: URL), not by 'file_id'",
            param=f"{where}.file_id",
        )
    detail = {"detail": part["detail"]} if part.get("detail") else {}
    rest = without(part, "type", "image_url", "detail", "file_id")
    return {"type": "image_url", "image_url": {"url": url, **detail}, **rest}


def _file_to_chat(part: JsonObject, where: str) -> JsonObject:
    if part.get("file_url"):
        raise InvalidRequestError(
            f"{where}: a chat model takes a file by 'file_data', not by 'file_url'", param=f"{where}.file_url"
        )
    names = ("file_data", "file_id", "filename")
    file = {name: part[name] for name in names if part.get(name) is not None}
    return {"type": "file", "file": file, **without(part, "type", "file_url", *names)}


def _part_from_chat(part: object, where: str, text_type: str) -> JsonObject:
    if isinstance(part, str):
        return {"type": text_type, "text": part}
    known = as_object(part)
    kind = known.get("type")
    translate = _FROM_CHAT.get(kind) if isinstance(kind, str) else None
    if kind == "text":
        return {**known, "type": text_type}
    if translate is None:
        raise InvalidRequestError(f"{where}: the responses API takes no part of type {kind!r:.40}", param=where)
    return translate(known)


def _image_from_chat(part: JsonObject) -> JsonObject:
    image = as_object(part.get("image_url"))
    return {
        "type": "input_image",
        "image_url": image.get("url", ""),
        **without(image, "url"),
        **without(part, "type", "image_url"),
    }


_FROM_CHAT: dict[str, Callable[[JsonObject], JsonObject]] = {
    "image_url": _image_from_chat,
    "file": lambda part: {"type": "input_file", **as_object(part.get("file")), **without(part, "type", "file")},
    "input_audio": lambda part: part,
    "refusal": lambda part: part,
}
