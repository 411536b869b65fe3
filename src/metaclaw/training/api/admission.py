"""How much work may be open at a time, and whose.

Owns the limits and the count of what was accepted and is not answered yet; refuses to know what the work is.
Invariants: with other tenants at work nobody adds to more than an even share of the room, so a flood of one is never
the refusal of another; whoever has nothing open is always let in; a job that others of its model wait for is never
refused, for what waits holds the room until it is run; and a place is given back once, however the work ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from metaclaw.errors import OverloadedError
from metaclaw.training.api.tenants import Tenant

Kind = Literal["training", "sampling"]
Place = Literal["later", "next", "awaited"]  # in its model's order; awaited: others wait for it already

_NEXT = 2  # shares for what can run at once: so a second model works beside the full queue of a first


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a request takes, or all that are open; as a limit, 0 is none."""

    requests: int = 0
    tokens: int = 0
    size_bytes: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            requests=self.requests + other.requests, tokens=self.tokens + other.tokens,
            size_bytes=self.size_bytes + other.size_bytes,
        )  # fmt: skip

    def __sub__(self, other: Load) -> Load:
        return self + Load(requests=-other.requests, tokens=-other.tokens, size_bytes=-other.size_bytes)

    def is_within(self, limit: Load, *, times: float) -> bool:
        """Whether every part is at most ``times`` that of ``limit``."""
        parts = (
            (self.requests, limit.requests), (self.tokens, limit.tokens), (self.size_bytes, limit.size_bytes),
        )  # fmt: skip
        return all(not most or part <= most * times for part, most in parts)

    def __str__(self) -> str:
        parts = [f"{self.requests} requests"]
        parts += [f"{self.tokens} tokens"] if self.tokens else []
        parts += [f"{self.size_bytes} bytes"] if self.size_bytes else []
        return ", ".join(parts)


@dataclass(slots=True, kw_only=True)
class Ticket:
    """A place that was taken. ``release`` gives it back, once."""

    give_back: Callable[[], None] | None

    def release(self) -> None:
        if self.give_back is not None:
            give_back, self.give_back = self.give_back, None
            give_back()


@dataclass(slots=True, kw_only=True)
class Admission:
    """Counts for the whole server, by kind of work and by owner."""

    limits: dict[Kind, Load]
    _open: dict[Kind, dict[str, Load]] = field(init=False)

    def __post_init__(self) -> None:
        self._open = {kind: {} for kind in self.limits}

    def take(self, kind: Kind, tenant: Tenant, owner: str, load: Load, *, place: Place = "later") -> Ticket:
        """Count ``load`` in for ``owner`` until the ticket is released.

        Raises ``OverloadedError``, upon which clients try again, when it is too much now. ``owner`` is not ``tenant``
        when an admin works on somebody's model.
        """
        if place != "awaited":
            self._check(kind, tenant, owner, load, times=_NEXT if place == "next" else 1)
        owners = self._open[kind]
        owners[owner] = owners.get(owner, Load()) + load
        return Ticket(give_back=lambda: self._give_back(kind, owner, load))

    def num_open(self, owner: str) -> int:
        """Requests of ``owner`` that are accepted and not answered yet, of every kind."""
        return sum(owners[owner].requests for owners in self._open.values() if owner in owners)

    def total(self, kind: Kind) -> Load:
        """What is open of everybody."""
        return sum(self._open[kind].values(), Load())

    def _check(self, kind: Kind, tenant: Tenant, owner: str, load: Load, *, times: int) -> None:
        quota = tenant.quotas.max_requests
        if quota is not None and self.num_open(tenant.key_id) >= quota:
            raise OverloadedError(
                f"{self.num_open(tenant.key_id)} requests of key {tenant.name!r} are open and its quota is {quota}; "
                "wait for answers, or have the quota raised"
            )
        mine = self._open[kind].get(owner)
        if mine is None:
            return
        limit, num_owners = self.limits[kind], len(self._open[kind])
        # Twice the limit in all: who came while it was all somebody's waits for that to run.
        is_room = (self.total(kind) + load).is_within(limit, times=2 * times)
        if not is_room or not (mine + load).is_within(limit, times=times / num_owners):
            raise OverloadedError(
                f"{mine} of this key are open ({kind}); {num_owners} keys share {limit} here. Try again later"
            )

    def _give_back(self, kind: Kind, owner: str, load: Load) -> None:
        owners = self._open[kind]
        owners[owner] -= load
        if not owners[owner].requests:
            del owners[owner]
