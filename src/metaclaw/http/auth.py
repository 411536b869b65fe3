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
_MINT_PREFIX = "sk-"  # MinT's keys start so


def presented_token(headers: Mapping[str, str]) -> str | None:
    """The token in ``Authorization: Bearer`` or ``X-API-Key`` (names in lower case or a case-blind mapping)."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip() or None


def required_token(headers: Mapping[str, str]) -> str:
    """The caller's token, or ``AuthenticationError`` that says how to send one."""
    presented = presented_token(headers)
    if presented is None:
        raise AuthenticationError("a token is required: send 'Authorization: Bearer <token>' or 'X-API-Key: <token>'")
    return presented


def require_token(headers: Mapping[str, str], expected: str) -> None:
    """Raise ``AuthenticationError`` unless the caller presented ``expected``."""
    presented = required_token(headers)
    if not expected or not hmac.compare_digest(digest(presented), digest(expected)):
        raise refused()


def bare_key(token: str) -> str:
    """A key without what some SDK wants it to begin with: with and without it, it is one key."""
    return token.removeprefix(TINKER_PREFIX).removeprefix(_MINT_PREFIX)


def refused() -> AuthenticationError:
    """One sentence for every token that lets nobody in, whatever is wrong with it."""
    return AuthenticationError("the token is not valid here")


def digest(token: str) -> bytes:
    """What is compared: digests have one length, so the comparison does not tell how long the secret is."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
