"""JSON objects as they come, read without trust.

Owns the narrowing of unknown values; refuses to know what they mean. Invariant: never raises.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard, cast

from metaclaw.chat.messages import JsonObject


def is_object(value: object) -> TypeGuard[JsonObject]:
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def as_object(value: object) -> JsonObject:
    """``value`` when it is an object, else an empty one."""
    return cast(JsonObject, value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """``value`` when it is a list, else an empty one."""
    return cast(list[Any], value) if isinstance(value, list) else []


def objects_in(value: object) -> list[JsonObject]:
    """The objects of a list."""
    return [cast(JsonObject, entry) for entry in as_list(value) if isinstance(entry, dict)]


def as_text(value: object) -> str:
    """``value`` when it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def as_count(value: object) -> int:
    """``value`` when it is a whole number, else zero."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def as_time(value: object) -> int:
    """``value`` in whole seconds when it is a number of them, else zero."""
    if isinstance(value, float):
        return int(value) if math.isfinite(value) else 0
    return as_count(value)


def writable(text: str) -> str:
    """``text`` with half surrogate pairs, which JSON can carry and UTF-8 cannot, as their escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def without(body: JsonObject, *keys: str) -> JsonObject:
    """A copy that lacks ``keys``."""
    return {key: value for key, value in body.items() if key not in keys}
