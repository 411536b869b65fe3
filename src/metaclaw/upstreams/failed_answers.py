"""Errors that come with status 200.

Owns telling them from answers, and the status that they should have had; refuses to know transport. Invariant: what
holds a word of an answer is one.

OpenRouter says with status 200 that a provider failed, Anthropic in a stream's first event that it is overloaded, and
whoever stands between answers everything with a page. As long as nothing was passed on, another model may be asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.chat.sse import SseParser

# By the names that Anthropic and OpenAI give to errors, where no code says it.
_STATUS_OF_TYPE = {
    "invalid_request_error": 400, "authentication_error": 401, "permission_error": 403, "not_found_error": 404,
    "request_too_large": 413, "rate_limit_error": 429, "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip
_SAYS_SOMETHING = frozenset(("choices", "content", "output", "data"))  # one of these is in every answer
_PAGE_BEGINS = (b"<!doctype", b"<html")
_MARK = b'"error"'
_UNKNOWN = 502


def status_of(error: JsonObject) -> int:
    """The HTTP status that says what ``error`` does."""
    code: object = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return _STATUS_OF_TYPE.get(str(error.get("type")), _UNKNOWN)


def error_in(answer: JsonObject) -> JsonObject | None:
    """The error that ``answer``, whole or an event, is in place of an answer; ``None`` when it is one."""
    error = answer.get("error")
    if not error and answer.get("type") == "error":  # as OpenAI's responses stream it
        return answer
    if not error or not _SAYS_SOMETHING.isdisjoint(answer):
        return None
    return object_or_none(error) or {"message": str(error)}


def error_at_once(content_type: str, first: bytes) -> JsonObject | None:
    """The error that an answer begins with, whose ``first`` bytes are here; ``None`` when it is none, or not known."""
    if first[:64].lstrip()[:9].lower().startswith(_PAGE_BEGINS):
        return {"message": "that is a web page, and no model's answer; check the URL"}
    if _MARK not in first:
        return None
    if not content_type.startswith("text/event-stream"):
        return _first_error([first])
    events = (event.data.encode() for event in SseParser().feed(first) if event.data is not None)
    return _first_error(events)


def _first_error(values: Iterable[bytes]) -> JsonObject | None:
    for text in values:
        try:
            value = object_or_none(json.loads(text))
        except (ValueError, RecursionError):
            return None
        if value is None:
            return None
        if value.get("type") != "ping":
            return error_in(value)
    return None
