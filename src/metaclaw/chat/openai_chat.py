"""OpenAI's chat completions: requests and plain answers.

Owns the shape of both as far as we rely on it; refuses to know what a provider adds. Invariant: a key that we do
not know is passed on as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError

DIALECT = "openai.chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A request whose shape was checked. ``body`` is the client's own object; treat it as read-only."""

    body: JsonObject
    messages: list[JsonObject]
    model: str
    is_stream: bool
    num_answers: int
    temperature: float | None

    def with_changes(self, **changes: Any) -> JsonObject:
        """A copy of the body with these keys set."""
        return {**self.body, **changes}

    def without_messages(self) -> JsonObject:
        """The body as the journal keeps it: messages are stored apart."""
        return {key: value for key, value in self.body.items() if key != "messages"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """What a turn came to, of the first choice."""

    message: JsonObject | None
    finish_reason: str | None
    usage: JsonObject | None
    policy_record: JsonObject | None = None


def parse_request(body: JsonObject) -> ChatRequest:
    """Check ``body``; raises ``InvalidRequestError`` with the name of the parameter."""
    return ChatRequest(
        body=body,
        messages=_messages(body.get("messages")),
        model=_optional(body, "model", str) or "",
        is_stream=_optional(body, "stream", bool) or False,
        num_answers=_num_answers(body),
        temperature=_optional_number(body, "temperature"),
    )


def parse_answer(body: Mapping[str, Any]) -> ChatAnswer:
    """What a plain (not streamed) answer says, as far as it can be understood."""
    choices: object = body.get("choices")
    first: object = cast(list[object], choices)[0] if isinstance(choices, list) and choices else None
    choice = cast(JsonObject, first) if isinstance(first, dict) else {}
    return ChatAnswer(
        message=object_or_none(choice.get("message")),
        finish_reason=text_or_none(choice.get("finish_reason")),
        usage=object_or_none(body.get("usage")),
        policy_record=object_or_none(body.get("policy_record")),
    )


def object_or_none(value: object) -> JsonObject | None:
    return cast(JsonObject, value) if isinstance(value, dict) else None


def text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


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


def _num_answers(body: JsonObject) -> int:
    value = body.get("n")
    if value is None:
        return 1
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidRequestError(f"'n' must be a whole number from 1, not {value!r}", param="n")
    return value


def _optional(body: JsonObject, name: str, kind: type[str] | type[bool]) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        wanted = "a string" if kind is str else "true or false"
        raise InvalidRequestError(f"{name!r} must be {wanted}, not {value!r:.80}", param=name)
    return value


def _optional_number(body: JsonObject, name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidRequestError(f"{name!r} must be a number, not {value!r:.80}", param=name)
    try:
        return float(value)
    except OverflowError:
        raise InvalidRequestError(f"{name!r} is too large a number", param=name) from None
