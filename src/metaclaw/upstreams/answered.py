"""What came from an upstream, as JSON.

Owns saying whose answer cannot be read; refuses to know what an answer means. Invariant: what is not an object is an
``UpstreamError`` that names the upstream.
"""

from __future__ import annotations

import json

from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.errors import UpstreamError


def answered_object(name: str, body: bytes) -> JsonObject:
    """The object that ``name`` answered. Raises ``UpstreamError``."""
    try:
        value = object_or_none(json.loads(body))
    except ValueError as error:
        raise UpstreamError(f"{name} answered with something that is not JSON", status=502) from error
    if value is None:
        raise UpstreamError(f"{name} answered with something that is not an object", status=502)
    return value
