"""``access.db``: the gateway's tokens and what each has used.

Owns the SQL; refuses to know HTTP and what happens over a limit. Invariant: a token itself is stored nowhere, only its
digest; and a name is in use once at a time.
"""

from __future__ import annotations

import secrets
import sqlite3
import sys
from array import array
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import ConflictError, InvalidRequestError, JournalError, NotFoundError
from metaclaw.journal.database import open_writer, transaction
from metaclaw.journal.replaced_files import Place

_MAX_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a token may use; ``None`` is no limit."""

    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    usd_per_month: float | None = None
    max_concurrent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A token as it is listed: everything but the token."""

    id: str
    name: str
    agent: str | None
    limits: Limits
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a token has used, in the windows that were the current ones when it last used anything."""

    admitted: tuple[float, ...] = ()  # when the requests of the last minute came, if their number is limited
    day: str = ""
    day_requests: int = 0
    day_tokens: int = 0
    month: str = ""
    month_tokens: int = 0
    month_usd: float = 0.0


class AccessStore:
    """On a connection of one's own. One thread at a time may use it. Every method may raise ``JournalError``."""

    def __init__(self, connection: sqlite3.Connection, place: Place) -> None:
        self._connection = connection
        self._place = place
        self._connection.row_factory = sqlite3.Row

    @classmethod
    def open(cls, path: Path) -> AccessStore:
        """Open ``path``, making it as needed. Raises ``JournalError``."""
        return cls(open_writer(path, "access"), Place.of(path))

    def close(self) -> None:
        self._connection.close()

    def is_left(self) -> bool:
        """Whether it was closed now, because another file is at its place; false as long as somebody reads the old."""
        with _told():
            return not self._place.is_here() and self._place.leave(self._connection)

    def create(self, name: str, *, digest: bytes, agent: str | None, limits: Limits, now: float) -> AccessToken:
        """A new token, told by its digest. ``ConflictError`` when the name is in use."""
        if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
            raise InvalidRequestError(f"{name[:120]!r} is no name for a token: use 1-{_MAX_NAME} printable characters")
        token = AccessToken(id=f"tok-{secrets.token_hex(6)}", name=name, agent=agent, limits=limits, created_at=now)
        row = (
            token.id, name, digest, agent, limits.requests_per_minute, limits.tokens_per_day, limits.usd_per_month,
            limits.max_concurrent, now,
        )  # fmt: skip
        with _told():
            try:
                self._connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
            except sqlite3.IntegrityError as error:
                message = f"a token named {name!r} exists; revoke it first, or choose another name"
                raise ConflictError(message) from error
        return token

    def all(self) -> list[AccessToken]:
        """Every token there ever was, the oldest first."""
        with _told():
            return [_token(row) for row in self._connection.execute("SELECT * FROM tokens ORDER BY created_at, id")]

    def in_use(self) -> dict[bytes, AccessToken]:
        """The tokens that let somebody in, by their digests."""
        with _told():
            rows = self._connection.execute("SELECT * FROM tokens WHERE revoked_at IS NULL").fetchall()
        return {row["digest"]: _token(row) for row in rows}

    def revoke(self, name_or_id: str, now: float) -> AccessToken:
        """Let a token in no more, by its name or id. ``NotFoundError`` unless it is in use."""
        found = [token for token in self.in_use().values() if name_or_id in (token.name, token.id)]
        if not found:
            raise NotFoundError(f"no token in use has the name or id {name_or_id!r}; see `metaclaw tokens list`")
        with _told():
            self._connection.execute("UPDATE tokens SET revoked_at = ? WHERE id = ?", (now, found[0].id))
            row = self._connection.execute("SELECT * FROM tokens WHERE id = ?", (found[0].id,)).fetchone()
        return _token(row)

    def usage(self) -> dict[str, Usage]:
        """What each token has used, by its id."""
        with _told():
            return {row["token"]: _usage(row) for row in self._connection.execute("SELECT * FROM usage")}

    def save_usage(self, usage: Mapping[str, Usage]) -> None:
        """Replace what these tokens have used."""
        rows = [
            (
                token, _packed(used.admitted), used.day, used.day_requests, used.day_tokens, used.month,
                used.month_tokens, used.month_usd,
            )
            for token, used in usage.items()
        ]  # fmt: skip
        with _told(), transaction(self._connection):
            self._connection.executemany("INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def version(self) -> int:
        """Another number as soon as another connection has written."""
        with _told():
            (number,) = self._connection.execute("PRAGMA data_version").fetchone()
        return number


@contextmanager
def _told() -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise JournalError(f"access.db could not be used: {error}") from error


def _token(row: sqlite3.Row) -> AccessToken:
    limits = Limits(
        requests_per_minute=row["requests_per_minute"],
        tokens_per_day=row["tokens_per_day"],
        usd_per_month=row["usd_per_month"],
        max_concurrent=row["max_concurrent"],
    )
    return AccessToken(
        id=row["id"],
        name=row["name"],
        agent=row["agent"],
        limits=limits,
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )


def _usage(row: sqlite3.Row) -> Usage:
    return Usage(
        admitted=_unpacked(row["admitted"]),
        day=row["day"],
        day_requests=row["day_requests"],
        day_tokens=row["day_tokens"],
        month=row["month"],
        month_tokens=row["month_tokens"],
        month_usd=row["month_usd"],
    )


def _packed(times: tuple[float, ...]) -> bytes:
    values = array("d", times)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _unpacked(blob: bytes) -> tuple[float, ...]:
    values = array("d")
    values.frombytes(blob)
    if sys.byteorder == "big":
        values.byteswap()
    return tuple(values)
