"""Who may call a server of ours, and where that server may listen.

Owns tokens in request headers and the rule about open addresses; refuses to know routes and what a token is for.
Invariant: an empty expected token lets nobody in, and tokens are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping

from metaclaw.errors import AuthenticationError, ConfigError

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


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address that a server binds."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refuse_open_bind(host: str, explicit_token: str, *, setting: str = "api_key") -> None:
    """Raise ``ConfigError`` when ``host`` is reachable from elsewhere and the user chose no token."""
    if not is_loopback(host) and not explicit_token:
        raise ConfigError(
            f"host {host!r} can be reached from other machines: set {setting} to a token of your own, or bind 127.0.0.1"
        )


def _is_same(presented: str, expected: str) -> bool:
    # Digests have one length, so the comparison does not tell how long the secret is.
    return hmac.compare_digest(_digest(presented), _digest(expected))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
