"""Reading what a client or a model wrote, without trust in its shape.

Owns the small accessors of this package; refuses to know which field means what. Invariant: nothing here raises
but ``InvalidRequestError``, and that only in the functions that say so.
"""

from __future__ import annotations

from typing import Any, cast

from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError


def objects(value: object) -> list[JsonObject]:
    """The objects in ``value`` if it is a list."""
    return [cast(JsonObject, item) for item in listed(value) if isinstance(item, dict)]


def listed(value: object) -> list[object]:
    """``value`` if it is a list, else nothing."""
    return cast(list[object], value) if isinstance(value, list) else []


def is_object(value: object) -> bool:
    return isinstance(value, dict)


def is_list(value: object) -> bool:
    return isinstance(value, list)


def object_in(value: object) -> JsonObject:
    """``value`` if it is an object, else an empty one."""
    return cast(JsonObject, value) if isinstance(value, dict) else {}


def text_in(value: object) -> str:
    """``value`` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def count_in(value: object) -> int:
    """``value`` if it is a whole number that is not negative, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def optional(body: JsonObject, name: str, kind: type[Any] | tuple[type[Any], ...], wanted: str) -> Any:
    """The value of ``name``, or ``None``. Raises ``InvalidRequestError`` when it is not of ``kind``."""
    value = body.get(name)
    is_bool = isinstance(value, bool) and kind is not bool
    if value is not None and (is_bool or not isinstance(value, kind)):
        raise InvalidRequestError(f"{name!r} must be {wanted}, not {value!r:.80}", param=name)
    return value


def unsaid(param: str, what: str, to: str) -> InvalidRequestError:
    """The error for what a translation has no words for."""
    return InvalidRequestError(f"{param}: {what} cannot be said to a model that speaks {to}", param=param)
