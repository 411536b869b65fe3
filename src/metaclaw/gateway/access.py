"""Who may use the gateway, and how much of it.

Owns finding the principal of a token and holding it to its limits; refuses to know routes, files and prices. Invariant:
tokens are compared in constant time by their digests, an unknown one costs what a known one does and learns nothing;
and what was admitted is released once and charged once.

The token of ``proxy.api_key`` is the owner's: it may be any agent. What an answer costs is charged after it, so a
budget is overrun by at most what was under way when it was reached (``max_concurrent`` bounds that). After kill -9
the counts of the last quarter of a second may be missing.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from metaclaw.gateway.access_keeper import AccessKeeper
from metaclaw.gateway.limits import Meter
from metaclaw.http.auth import digest, refused, required_token
from metaclaw.journal.access_store import Limits

OWNER = "owner"
TOKEN_PREFIX = "mc-"
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whose token it was. ``agent`` is the one agent that it may be, ``None`` any."""

    id: str
    name: str
    agent: str | None
    limits: Limits


class Admission:
    """A request that was let in; whoever has it must ``release`` it, whatever becomes of the request."""

    def __init__(self, release: Callable[[], None], charge: Callable[[int, float], None]) -> None:
        self._release: Callable[[], None] | None = release
        self._charge: Callable[[int, float], None] | None = charge

    def release(self) -> None:
        """The request is over. Only the first call counts."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def charge(self, *, tokens: int, usd: float | None) -> None:
        """It used so much; what has no known price costs nothing. Only the first call counts."""
        charge, self._charge = self._charge, None
        if charge is not None:
            charge(max(0, tokens), max(0.0, usd or 0.0))

    def with_another(self, other: Admission) -> Admission:
        """Both as one."""

        def release() -> None:
            self.release()
            other.release()

        def charge(tokens: int, usd: float) -> None:
            self.charge(tokens=tokens, usd=usd)
            other.charge(tokens=tokens, usd=usd)

        return Admission(release, charge)


class Access:
    """Asked at each request, on the event loop."""

    def __init__(
        self, *, owner_token: str, owner_limits: Limits, keeper: AccessKeeper, clock: Callable[[], float]
    ) -> None:
        self._owner = Principal(id=OWNER, name=OWNER, agent=None, limits=owner_limits)
        self._owner_digest = digest(owner_token)
        self._has_owner = bool(owner_token)
        self._keeper = keeper
        self._clock = clock
        self._meters: dict[str, Meter] = {}

    async def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """Whose token this is. Raises ``AuthenticationError``.

        Waits for the file only when the token is not known: a token that was made a moment ago works at once.
        """
        presented = digest(required_token(headers))
        principal = self._known(presented)
        if principal is None:
            await self._keeper.refresh()
            principal = self._known(presented)
        if principal is None:
            raise refused()
        return principal

    def admit(self, principal: Principal) -> Admission:
        """Count a request in. Raises ``RateLimitError`` or ``BudgetError``."""
        meter = self._meters.get(principal.id)
        if meter is None:
            meter = self._meters[principal.id] = Meter(principal.limits, self._keeper.used.get(principal.id))
        meter.admit(self._clock())
        self._keeper.keep(principal.id, meter.usage)

        def charge(tokens: int, usd: float) -> None:
            meter.charge(self._clock(), tokens=tokens, usd=usd)
            self._keeper.keep(principal.id, meter.usage)

        return Admission(meter.release, charge)

    def _known(self, presented: bytes) -> Principal | None:
        # Found by its digest: what the look-up takes says nothing about a token, of which nobody can aim the digest.
        token = self._keeper.tokens.get(presented)
        if hmac.compare_digest(presented, self._owner_digest) and self._has_owner:
            return self._owner
        if token is None:
            return None
        return Principal(id=token.id, name=token.name, agent=token.agent, limits=token.limits)


def new_token() -> str:
    """256 random bits, as a client sends them."""
    return TOKEN_PREFIX + secrets.token_hex(_TOKEN_BYTES)
