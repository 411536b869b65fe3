"""What a failed attempt means for those that follow.

Owns the kinds of failure, how long each keeps a credential out of the way, and what a client is told at the end;
refuses to know who is asked next. Invariant: trouble that passes is 429, 503 or 529 for the client, and never 401,
402 or 403, on which agent programs lock their provider out.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from metaclaw.errors import UpstreamError

_BILLING_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_LADDER_S = (60.0, 300.0, 1500.0, 3600.0)
_MAX_COOLDOWN_S = 3600.0
_BILLING_S, _MAX_BILLING_S = 5 * 3600.0, 24 * 3600.0
_SHORT_S, _MAX_SHORT_S = 5.0, 60.0
_RETRY_AFTER_S = 5.0


class Kind(StrEnum):
    """Why an attempt failed."""

    AUTH = "auth"
    FORBIDDEN = "forbidden"
    BILLING = "billing"
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    SERVER = "server_error"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    REQUEST = "request"  # the caller's own mistake: goes straight back

    @property
    def is_of_key(self) -> bool:
        """Whether it is the key that is refused, so that nothing but time or a person helps it."""
        return self in (Kind.AUTH, Kind.FORBIDDEN, Kind.BILLING)

    @property
    def is_hard(self) -> bool:
        """Whether the upstream wants this key to be left alone, rather than being in trouble itself."""
        return self.is_of_key or self is Kind.RATE_LIMIT


_OF_STATUS = {
    401: Kind.AUTH,
    402: Kind.BILLING,
    403: Kind.FORBIDDEN,
    408: Kind.TIMEOUT,
    409: Kind.SERVER,  # the providers' own SDKs try again on these two
    425: Kind.SERVER,
    429: Kind.RATE_LIMIT,
    504: Kind.TIMEOUT,
    529: Kind.OVERLOADED,
}

# The most telling first: what the client is to know of several failures.
_TELLING = (
    Kind.RATE_LIMIT, Kind.OVERLOADED, Kind.SERVER, Kind.TIMEOUT, Kind.CONNECTION,
    Kind.BILLING, Kind.FORBIDDEN, Kind.AUTH, Kind.REQUEST,
)  # fmt: skip


def kind_of(error: UpstreamError) -> Kind:
    """The kind of a failure before the first byte of an answer."""
    if error.status is None:
        return Kind.CONNECTION
    if error.status == 429 and error.detail.get("code") in _BILLING_CODES:
        return Kind.BILLING
    if known := _OF_STATUS.get(error.status):
        return known
    return Kind.REQUEST if 400 <= error.status < 500 else Kind.SERVER


def cooldown_s(kind: Kind, num_in_a_row: int, retry_after_s: float | None) -> float:
    """How long a credential is asked only when there is no other, after so many failures in a row."""
    step = num_in_a_row - 1
    if kind is Kind.BILLING:
        return min(_BILLING_S * 2 ** min(step, 8), _MAX_BILLING_S)
    if kind is Kind.AUTH:
        return _LADDER_S[min(step + 1, len(_LADDER_S) - 1)]
    if retry_after_s is not None:
        return min(retry_after_s, _MAX_COOLDOWN_S)
    if kind.is_hard:
        return _LADDER_S[min(step, len(_LADDER_S) - 1)]
    return min(_SHORT_S * 2 ** min(step, 8), _MAX_SHORT_S)


def final_error(failures: Sequence[UpstreamError], available_in_s: float) -> UpstreamError:
    """What the client gets after these failures, of which there is at least one."""
    telling = min(failures, key=lambda error: _TELLING.index(kind_of(error)))
    kind = kind_of(telling)
    status = {Kind.RATE_LIMIT: 429, Kind.OVERLOADED: 529}.get(kind, 503)
    others = dict.fromkeys(_short(error) for error in failures if error is not telling and str(error) != str(telling))
    also = f"; before that: {', '.join(others)}" if others else ""
    is_its_own = telling.status == status
    wish_s = max(telling.retry_after_s or 0.0, available_in_s)
    return UpstreamError(
        f"{telling}{also}",
        status=status,
        retry_after_s=wish_s or _RETRY_AFTER_S,
        detail=telling.detail if is_its_own else None,
        said=telling.said,
        # Whether to ask it again is no longer what it said of its own refusal: others may answer.
        headers={name: value for name, value in telling.headers.items() if is_its_own or name != "x-should-retry"},
    )


def _short(error: UpstreamError) -> str:
    return str(error).split(":")[0]
