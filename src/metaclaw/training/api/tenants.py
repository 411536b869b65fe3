"""Whose a request is.

Owns the tenant as a value and the one rule of what is whose; refuses to know keys, SQL and HTTP. Invariant: what
belongs to another tenant does not exist for this one; only an admin sees everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """What a key may take at most; ``None`` is no limit of its own."""

    max_models: int | None = None  # in training at the same time
    max_bytes: int | None = None  # in checkpoints
    max_requests: int | None = None  # accepted and not answered yet: training jobs and samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A key that was let in. ``key_id`` owns what it makes, and is the share of time its work takes."""

    key_id: str
    name: str
    is_admin: bool = False
    quotas: Quotas = field(default_factory=Quotas)

    def may_use(self, owner: str) -> bool:
        """Whether things of ``owner`` exist for this tenant."""
        return self.is_admin or self.key_id == owner


ADMIN = Tenant(key_id="", name="admin", is_admin=True)  # who holds train_server.api_key; and the server itself
