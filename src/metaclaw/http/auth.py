"""Who may call a server of ours.

Owns tokens in request headers; refuses to know routes, addresses and what a token is for.
Invariant: an empty expected token lets nobody in, and tokens are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from metaclaw.errors import AuthenticationError

TINKER_PREFIX = "tml-"  # the Tinker SDK refuses keys that do not start so


def presented_token(headers: Mapping[str, str]) -> str | None:
    """The token in ``Authorization: Bearer`` or ``X-API-Key`` (names in lower case or a case-blind mapping)."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip() or None


def require_token(headers: Mapping[str, str], expected: str, *, optional_prefix: str = "") -> None:
    """Raise ``AuthenticationError`` unless the caller presented ``expected``.

    With ``optional_prefix`` a key and the same key behind that prefix are one key, on both sides.
    """
    presented = presented_token(headers)
    if presented is None:
        raise AuthenticationError("a token is required: send 'Authorization: Bearer <token>' or 'X-API-Key: <token>'")
    if not expected or not _is_same(presented.removeprefix(optional_prefix), expected.removeprefix(optional_prefix)):
        raise AuthenticationError("the token is not valid here")


def _is_same(presented: str, expected: str) -> bool:
    # Digests have one length, so the comparison does not tell how long the secret is.
    return hmac.compare_digest(_digest(presented), _digest(expected))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
