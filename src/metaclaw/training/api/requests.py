"""Reading requests, the same way on every route.

Owns the limit on bodies and the check of the key; refuses to know what a body means. Invariant: nothing of a body
is read before the caller was let in, and who it is was found out once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TypeVar

from starlette.requests import Request

from metaclaw.errors import ForbiddenError
from metaclaw.http.auth import required_token
from metaclaw.http.body import read_body
from metaclaw.training.api.codec import decompress
from metaclaw.training.api.keys import Keyring
from metaclaw.training.api.tenants import Tenant

T = TypeVar("T")

MAX_BODY_BYTES = 64 * 1024 * 1024  # the SDK splits training data at 5 MB, but one long datum is never split
_INLINE_BYTES = 64 * 1024
_MAX_PAGE = 1000
_MAX_OFFSET = 2**62


def authorised(keyring: Keyring, *, admins_only: bool = False) -> Callable[[Request], Awaitable[None]]:
    """A FastAPI dependency that lets in who has a key of this server, and remembers whose it is."""

    async def check(request: Request) -> None:
        tenant = await keyring.tenant(required_token(request.headers))
        if admins_only and not tenant.is_admin:
            raise ForbiddenError(f"{request.url.path} is for admin keys")
        request.state.tenant = tenant

    return check


def tenant_of(request: Request) -> Tenant:
    """Whose request this is."""
    tenant = request.state.tenant
    assert isinstance(tenant, Tenant)
    return tenant


def is_near(request: Request) -> bool:
    """Whether the caller is a program on this machine, which can open the folders that we name."""
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def page_of(limit: int, offset: int) -> tuple[int, int]:
    """A page of a list within what is served at a time, and within what the database can count."""
    return min(max(limit, 1), _MAX_PAGE), min(max(offset, 0), _MAX_OFFSET)


async def body_of(request: Request) -> bytes:
    """The whole body, decompressed."""
    body = await read_body(request.receive, request.headers, MAX_BODY_BYTES)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if not encoding:
        return body
    return await asyncio.to_thread(decompress, body, encoding, MAX_BODY_BYTES)


async def digest_of(body: bytes) -> bytes:
    """What tells a retry from another request under the same number."""
    return await off_loop(lambda data: hashlib.sha256(data).digest(), body)


async def off_loop(function: Callable[[bytes], T], body: bytes) -> T:
    """``function(body)``, in a thread where the body is large enough to hold up everybody's streams."""
    return function(body) if len(body) <= _INLINE_BYTES else await asyncio.to_thread(function, body)
