"""What this server signed, and until when.

Owns the secret for signatures; refuses to know what is signed. Invariants: a signature holds for one purpose only, it
ends with its time, and it is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets


class Signer:
    """Signs and checks texts with a secret of its own.

    The secret comes from the server's key: signatures outlive a restart, and end when that key is changed.
    """

    def __init__(self, key: str) -> None:
        seed = key.encode() or secrets.token_bytes(32)  # never a secret that everybody knows
        self._secret = hashlib.sha256(b"metaclaw signatures\0" + seed).digest()

    def sign(self, purpose: str, expires_at: int, *parts: str) -> str:
        """The signature, in hexadecimal."""
        # Lengths go before the parts, so that no two lists of parts are one text.
        text = "".join(f"{len(part)}:{part}" for part in (purpose, str(expires_at), *parts))
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def holds(self, signature: str, purpose: str, expires_at: int, *parts: str, now: float) -> bool:
        """Whether ``signature`` is ours for exactly this, and has not ended."""
        expected = self.sign(purpose, expires_at, *parts)
        return hmac.compare_digest(signature.encode(), expected.encode()) and now < expires_at
