"""The keys of the server's tenants: made, listed, revoked, and found again by what a caller presents.

Owns the table ``keys``; refuses to know HTTP and what a tenant may do. Invariant: a key itself is stored nowhere,
only its digest; digests are compared in constant time, and an unknown key costs what a known one does.
"""

from __future__ import annotations

import hmac
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from metaclaw.errors import ConflictError, InvalidRequestError, NotFoundError
from metaclaw.http.auth import TINKER_PREFIX, bare_key, digest, refused
from metaclaw.training.api.access_tokens import BEGINNING, AccessTokens
from metaclaw.training.api.database import Database
from metaclaw.training.api.tenants import ADMIN, Quotas, Tenant

FRESH_S = 1.0  # for so long a revoked key may still be let in
_MAX_NAME = 100
_MAX_REMEMBERED = 10_000
_FIND = "SELECT * FROM keys WHERE digest = ? AND revoked_at IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it is listed: everything but the key."""

    tenant: Tenant
    created_at: float
    revoked_at: float | None


class KeyTable:
    """The table, on a connection of one's own: for the command line, whether the server runs or not."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def create(self, name: str, *, is_admin: bool, quotas: Quotas, now: float) -> tuple[str, Key]:
        """A new key, told this once, and how it is listed. ``ConflictError`` when the name is in use."""
        if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
            raise InvalidRequestError(f"{name[:120]!r} is no name for a key: use 1-{_MAX_NAME} printable characters")
        secret, key_id = secrets.token_hex(32), f"key-{secrets.token_hex(6)}"
        tenant = Tenant(key_id=key_id, name=name, is_admin=is_admin, quotas=quotas)
        row = (
            key_id, name, digest(secret), int(is_admin), quotas.max_models, quotas.max_bytes, quotas.max_requests, now,
        )  # fmt: skip
        try:
            self._connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
        except sqlite3.IntegrityError as error:
            raise ConflictError(f"a key named {name!r} exists; revoke it first, or choose another name") from error
        return TINKER_PREFIX + secret, Key(tenant=tenant, created_at=now, revoked_at=None)

    def all(self) -> list[Key]:
        """Every key there ever was, the oldest first."""
        rows = self._connection.execute("SELECT * FROM keys ORDER BY created_at, key_id").fetchall()
        return [_key(row) for row in rows]

    def revoke(self, name_or_id: str, now: float) -> Key:
        """Let a key in no more, by its name or id. ``NotFoundError`` unless it is in use."""
        found = [
            key for key in self.all() if key.revoked_at is None and name_or_id in (key.tenant.name, key.tenant.key_id)
        ]
        if not found:
            raise NotFoundError(f"no key in use has the name or id {name_or_id!r}; see `metaclaw keys list`")
        key = found[0]
        self._connection.execute("UPDATE keys SET revoked_at = ? WHERE key_id = ?", (now, key.tenant.key_id))
        return Key(tenant=key.tenant, created_at=key.created_at, revoked_at=now)


class Keyring:
    """Who a presented key is, for the running server."""

    def __init__(
        self, admin_key: str, database: Database, clock: Callable[[], float], tokens: AccessTokens | None = None
    ) -> None:
        self._admin = digest(bare_key(admin_key))
        self._has_admin = bool(admin_key)
        self._database = database
        self._tokens = tokens
        self._clock = clock
        self._fresh: dict[bytes, tuple[float, Tenant]] = {}

    async def tenant(self, presented: str) -> Tenant:
        """The tenant whose key this is, with or without the SDK's prefix. Raises ``AuthenticationError``.

        A key that was found is remembered for ``FRESH_S``, so that a busy client costs one look-up a second; unknown
        ones are not, so that a new key works at once.
        """
        if presented.startswith(BEGINNING):
            return await self._of_token(presented)
        wanted = digest(bare_key(presented))
        if hmac.compare_digest(wanted, self._admin) and self._has_admin:
            return ADMIN
        now = self._clock()
        known = self._fresh.get(wanted)
        if known is not None and now - known[0] < FRESH_S:
            return known[1]
        rows = await self._database.all(_FIND, (wanted,))
        found: bytes = rows[0]["digest"] if rows else bytes(len(wanted))
        if not hmac.compare_digest(wanted, found):
            self._fresh.pop(wanted, None)
            raise refused()
        if len(self._fresh) >= _MAX_REMEMBERED:
            self._fresh.clear()
        tenant = _key(rows[0]).tenant
        self._fresh[wanted] = (now, tenant)
        return tenant

    async def _of_token(self, presented: str) -> Tenant:
        key_id = None if self._tokens is None else self._tokens.key_id(presented)
        if key_id is None:
            raise refused()
        if key_id == ADMIN.key_id:
            return ADMIN
        rows = await self._database.all("SELECT * FROM keys WHERE key_id = ? AND revoked_at IS NULL", (key_id,))
        if not rows:
            raise refused()
        return _key(rows[0]).tenant


def _key(row: sqlite3.Row) -> Key:
    quotas = Quotas(max_models=row["max_models"], max_bytes=row["max_bytes"], max_requests=row["max_requests"])
    tenant = Tenant(key_id=row["key_id"], name=row["name"], is_admin=bool(row["is_admin"]), quotas=quotas)
    return Key(tenant=tenant, created_at=row["created_at"], revoked_at=row["revoked_at"])
