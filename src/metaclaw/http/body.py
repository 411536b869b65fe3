"""Request bodies.

Owns reading JSON within a limit; refuses to know what the JSON means. Invariant: what is returned is an object of
finite numbers that can be written out again as standard JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from metaclaw.deadlines import Within
from metaclaw.errors import BodyTimeoutError, InvalidRequestError, RequestTooLargeError

_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # gzip, zstd


async def read_body_within(receive: Receive, headers: Mapping[str, str], *, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body. Raises ``BodyTimeoutError`` when it takes longer, and what ``read_body`` raises."""
    try:
        with Within(timeout_s):
            return await read_body(receive, headers, max_bytes)
    except TimeoutError:
        raise BodyTimeoutError(f"the body did not come within {timeout_s:g} seconds") from None


async def read_body(receive: Receive, headers: Mapping[str, str], max_bytes: int) -> bytes:
    """The whole body; ``headers`` by names in lower case.

    Raises ``RequestTooLargeError`` as soon as more than ``max_bytes`` are announced or sent, ``ClientDisconnect`` when
    the client leaves before it is there.
    """
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    num_bytes = 0
    has_more = True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
        has_more = message.get("more_body", False)
    return b"".join(chunks)


def parse_json_object(body: bytes) -> dict[str, Any]:
    """``body`` as a JSON object, or ``InvalidRequestError`` that says where it is malformed."""
    try:
        value = _parsed(body)
    except json.JSONDecodeError as error:
        raise InvalidRequestError(
            f"the body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except UnicodeDecodeError as error:
        if body.startswith(_COMPRESSED):
            raise InvalidRequestError("the body is compressed: send it as it is, without Content-Encoding") from error
        raise InvalidRequestError(f"the body is not UTF-8 text (byte {error.start})") from error
    except RecursionError as error:
        raise InvalidRequestError("the body is nested too deeply") from error
    except InvalidRequestError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise InvalidRequestError(f"the body holds a number that cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequestError(f"the body must be a JSON object, not {_name(value)}")
    return cast(dict[str, Any], value)


def _parsed(body: bytes) -> object:
    try:
        return _DECODER.decode(str(body, "utf-8"))
    except ValueError:  # malformed, or in another encoding, which the standard library finds out
        return json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)


def _too_large(max_bytes: int) -> RequestTooLargeError:
    return RequestTooLargeError(f"the request body is larger than the limit of {max_bytes} bytes")


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequestError(f"the body holds {name}, which is not valid JSON: send a finite number or null")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidRequestError(f"the body holds the number {text[:40]!r}, which is too large for a float")
    return value


# Made once: ``json.loads`` makes one for each call with hooks, which takes longer than reading a usual request.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _name(value: object) -> str:
    match value:
        case list():
            return "an array"
        case str():
            return "a string"
        case bool():
            return "a boolean"
        case None:
            return "null"
        case _:
            return "a number"
