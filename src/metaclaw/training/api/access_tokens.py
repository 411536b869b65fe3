"""Tokens for SDKs that exchange their key before they work.

Owns the token's form (a JWT: the SDKs read ``exp`` from it and insist on its beginning); refuses to know keys and HTTP.
Invariant: a token names a key and never holds it, so that a revoked key's tokens let nobody in.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metaclaw.training.api.signing import Signer

LIFETIME_S = 3600  # the SDK asks for the next one five minutes before
BEGINNING = "eyJ"  # '{"' in base64
_PURPOSE = "token"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessTokens:
    """Issues tokens and reads them."""

    signer: Signer
    clock: Callable[[], float]

    def issue(self, key_id: str) -> str:
        """A token that stands for the key ``key_id`` for an hour."""
        now = int(self.clock())
        claims = {"iat": now, "exp": now + LIFETIME_S, "sub": key_id, "org_id": "local", "email": ""}
        head = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
        return f"{head}.{_base64(self.signer.sign(_PURPOSE, now + LIFETIME_S, head).encode())}"

    def key_id(self, token: str) -> str | None:
        """The key that ``token`` stands for; ``None`` when it is not ours, damaged or too old."""
        head, _, signature = token.rpartition(".")
        try:
            claims = json.loads(_decode(head.partition(".")[2]))
            expires_at, subject = claims["exp"], claims["sub"]
            presented = _decode(signature).decode()
        except (ValueError, KeyError, TypeError, binascii.Error):
            return None
        if not isinstance(expires_at, int) or not isinstance(subject, str):
            return None
        return subject if self.signer.holds(presented, _PURPOSE, expires_at, head, now=self.clock()) else None


def _encode(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
