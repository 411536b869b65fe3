"""Checks of single parameters.

Owns what each kind of value must be and how a wrong one is named; refuses to know which dialect has which parameter.
Invariant: a value that is absent or null is never wrong here.
"""

from __future__ import annotations

from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError


def text_in(body: JsonObject, name: str) -> str:
    """A string; empty when it is absent."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError(f"{name!r} must be a string, not {value!r:.80}", param=name)
    return value or ""


def flag_in(body: JsonObject, name: str) -> bool:
    """True or false; false when it is absent."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequestError(f"{name!r} must be true or false, not {value!r:.80}", param=name)
    return value or False


def number_in(body: JsonObject, name: str) -> float | None:
    """A number."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidRequestError(f"{name!r} must be a number, not {value!r:.80}", param=name)
    try:
        return float(value)
    except OverflowError:
        raise InvalidRequestError(f"{name!r} is too large a number", param=name) from None


def num_answers_in(body: JsonObject) -> int:
    """``n``; one when it is absent."""
    value = body.get("n")
    if value is None:
        return 1
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidRequestError(f"'n' must be a whole number from 1, not {value!r:.80}", param="n")
    return value
