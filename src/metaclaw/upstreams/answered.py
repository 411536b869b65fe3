"""What came from an upstream, as JSON.

Owns saying whose answer cannot be read; refuses to know what an answer means. Invariant: what is not an object is an
``UpstreamError`` that names the upstream, and what is one can be written out again as standard JSON.
"""

from __future__ import annotations

import json
import math

from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.errors import UpstreamError


def answered_object(name: str, body: bytes) -> JsonObject:
    """The object that ``name`` answered. Raises ``UpstreamError``."""
    try:
        value = object_or_none(json.loads(body, parse_float=_finite, parse_constant=_finite))
    except (ValueError, RecursionError) as error:
        raise UpstreamError(f"{name} answered with something that is not JSON", status=502) from error
    if value is None:
        raise UpstreamError(f"{name} answered with something that is not an object", status=502)
    return value


def _finite(text: str) -> float | None:
    """The number, ``None`` for what JSON has none for: NaN, and what is too large for a float."""
    number = float(text)
    return number if math.isfinite(number) else None
