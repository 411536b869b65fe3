"""Messages as the field knows them, and when two of them are the same.

Owns canonical JSON, content hashes, history chains and the plain text of a message; refuses to know HTTP, storage
and who wrote a message. Invariant: a function here never changes a client's message, and the same content gives
the same hash whatever the order of its keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, cast

from metaclaw.fixed import fixed

JsonObject = dict[str, Any]
_SHORT = 1024  # characters of a call's arguments that are remembered
MAX_NAME = 64  # characters of a tool's name that OpenAI's chat and Gemini take
_DIGEST = 8

# ``json.dumps`` would make one of these at each call.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
_canonical_ascii = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@fixed
class Message:
    """A message in canonical form: what the journal stores once."""

    role: str
    body: str
    hash: bytes

    def parsed(self) -> JsonObject:
        return json.loads(self.body)


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces. Text stays readable; lone surrogates, which UTF-8 lacks, are escaped."""
    text = _canonical(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _canonical_ascii(value)
    return text


def freeze(message: Mapping[str, Any]) -> Message:
    """``message`` in canonical form."""
    body = canonical_json(message)
    return Message(role=str(message.get("role", "")), body=body, hash=hashlib.sha256(body.encode()).digest())


def chain_hashes(messages: Iterable[Message]) -> list[bytes]:
    """For each message the hash of the history that ends with it."""
    hashes: list[bytes] = []
    parent = b""
    for message in messages:
        parent = hashlib.sha256(parent + message.hash).digest()
        hashes.append(parent)
    return hashes


def object_or_none(value: object) -> JsonObject | None:
    return cast(JsonObject, value) if isinstance(value, dict) else None


def text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def text_parts(content: object) -> list[str]:
    """The texts in ``content``, which is a string, a list of parts, or nothing."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    parts = cast(list[object], content)
    return [text for part in parts if (text := _text_of_part(part)) is not None]


def text_of(content: object) -> str:
    """The text of ``content``; parts are joined by newlines, images and the like are left out."""
    if isinstance(content, str):
        return content
    return "\n".join(text_parts(content))


def answer_identity(message: Mapping[str, Any]) -> bytes:
    """A hash of what an answer says and calls.

    Ids of tool calls are left out (clients rewrite them), so is the white space around the text and in arguments.
    """
    calls: object = message.get("tool_calls") or ()
    said = text_of(message.get("content")).strip()
    listed = cast(Sequence[object], calls if isinstance(calls, list | tuple) else [calls])  # whoever wrote it
    return identity_of(said, [_call_identity(call) for call in listed])


def identity_of(text: str, others: Sequence[object]) -> bytes:
    """A hash of a text and of what comes with it."""
    if not others:  # as nearly always, for every message of every request: the same bytes in a third of the time
        try:
            return hashlib.sha256(f"[{encode_basestring(text)},[]]".encode()).digest()
        except UnicodeEncodeError:  # half a surrogate pair, which the other way escapes
            pass
    return hashlib.sha256(canonical_json([text, others]).encode()).digest()


def _text_of_part(part: object) -> str | None:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        text = cast(JsonObject, part).get("text")
        return text if isinstance(text, str) else None
    return None


def short_name(name: str) -> str:
    """The name of a tool as chat models take it; Anthropic's may have twice as many characters, and MCP's do."""
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{name[: MAX_NAME - _DIGEST - 1]}_{digest}"


def _call_identity(call: object) -> list[object]:
    function: object = cast(JsonObject, call).get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return [call]
    named = cast(JsonObject, function)
    arguments, name = named.get("arguments"), named.get("name")
    if isinstance(name, str):
        name = short_name(name)  # of one tool, whichever dialect it is said in
    if isinstance(arguments, str):
        return [name, (_canonical_shortly if len(arguments) <= _SHORT else _canonical_text)(arguments)]
    with contextlib.suppress(ValueError, RecursionError):
        arguments = canonical_json(arguments)
    return [name, arguments]


def _canonical_text(arguments: str) -> str:
    if not arguments.strip():
        return "{}"  # some models write nothing for none, and clients of other dialects give an object back
    # A model may write broken JSON, or nest it without end: then its own text is what it called with.
    with contextlib.suppress(ValueError, RecursionError):
        return canonical_json(json.loads(arguments))
    return arguments


_canonical_shortly = lru_cache(maxsize=1024)(_canonical_text)  # each call is in all later requests of its session
