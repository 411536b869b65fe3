"""What an upstream says when it refuses.

Owns turning a refused request into an ``UpstreamError``; refuses to know transport. Invariant: our key is never in
the text, nor is anything of a page that was not meant for a program; and whatever came, it can be written as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

from pydantic import SecretStr

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_object, writable
from metaclaw.errors import UpstreamError

_MAX_TEXT = 2000
_MAX_WISH_S = 7 * 86_400.0  # subscriptions have weeks; what is longer is a mistake, and may be infinite
_OF_OPENAI = ("type", "param", "code")


def refusal(
    name: str, key_setting: str, api_key: SecretStr, status: int, headers: Mapping[str, str], body: bytes
) -> UpstreamError:
    """The error for an answer of ``status`` other than 200."""
    if status in (401, 403):
        # Its own text is left out: providers quote parts of the key in it.
        return UpstreamError(f"{name} refused our key (HTTP {status}): check {key_setting}", status=status)
    if 300 <= status < 400:
        return UpstreamError(f"{name} answered {status}: its API has another address: set that one", status=status)
    detail = _error_object(body)
    said = _without_key(_message(detail, headers, body), api_key)
    message = f"{name} answered {status}: {said}" if said else f"{name} answered {status}"
    return UpstreamError(message, status=status, retry_after_s=_wish_s(headers), detail=detail, said=said)


def retry_after_s(value: str, now: datetime | None = None) -> float | None:
    """Seconds from a ``Retry-After`` header, which is a number or a date; a week at most."""
    text = value.strip()
    if not text:
        return None
    try:
        wish_s = float(text) if text.replace(".", "", 1).isdecimal() else _seconds_until(text, now)
    except (ValueError, OverflowError):  # a zone of more hours than there are
        return None
    return min(max(0.0, wish_s), _MAX_WISH_S)


def _wish_s(headers: Mapping[str, str]) -> float | None:
    milliseconds = headers.get("Retry-After-Ms", "").strip()  # of OpenAI and Azure, finer than the other
    if milliseconds.replace(".", "", 1).isdecimal():
        return min(float(milliseconds) / 1000, _MAX_WISH_S)
    return retry_after_s(headers.get("Retry-After", ""))


def _seconds_until(text: str, now: datetime | None) -> float:
    moment = parsedate_to_datetime(text)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - (now or datetime.now(UTC))).total_seconds()


def _error_object(body: bytes) -> JsonObject:
    """``{"error": {...}}``, ``error``, ``detail`` or ``message`` as text, and FastAPI's mistakes, as one shape.

    Mistral has those in its ``message``.
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, list) and value:  # Gemini's OpenAI endpoint puts the error object into a list
        value = cast(list[Any], value)[0]
    if not isinstance(value, dict):
        return {}
    fields = cast(JsonObject, value)
    error: object = fields.get("error")
    if isinstance(error, dict):
        return _plain(cast(JsonObject, error))
    text = next((fields[key] for key in ("error", "detail", "message") if isinstance(fields.get(key), str)), None)
    text = text or _mistakes(fields.get("detail")) or _mistakes(as_object(fields.get("message")).get("detail"))
    if not text:
        return {}
    # Older releases of vLLM have them beside the message.
    beside = {key: writable(known) for key in _OF_OPENAI if isinstance(known := fields.get(key), str)}
    return {**beside, "message": writable(text)}


def _plain(error: JsonObject) -> JsonObject:
    """What programs act on: texts and whole numbers. A few providers have anything at all in their place."""
    known = {key: value for key, value in error.items() if isinstance(value, str | int)}
    return {key: writable(value) if isinstance(value, str) else value for key, value in known.items()}


def _mistakes(detail: object) -> str:
    """What FastAPI's servers (vLLM, SGLang, ...) say of a request that they cannot read."""
    listed = cast(list[object], detail) if isinstance(detail, list) else []
    mistakes = [cast(JsonObject, one) for one in listed if isinstance(one, dict)]
    return "; ".join(f"{_place(one.get('loc'))}{one['msg']}" for one in mistakes if isinstance(one.get("msg"), str))


def _place(loc: object) -> str:
    names = [str(name) for name in cast(list[object], loc)] if isinstance(loc, list) else []
    return ".".join(names[1:] if names[:1] == ["body"] else names) + ": " if names else ""


def _message(detail: JsonObject, headers: Mapping[str, str], body: bytes) -> str:
    if isinstance(detail.get("message"), str):
        return detail["message"][:_MAX_TEXT]
    if "text/plain" in headers.get("Content-Type", ""):
        return body.decode("utf-8", "replace").strip()[:_MAX_TEXT]
    return ""


def _without_key(text: str, api_key: SecretStr) -> str:
    key = api_key.get_secret_value()
    return text.replace(key, "***") if key else text
