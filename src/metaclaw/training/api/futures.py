"""Answers that are not there yet: request ids, results, and how long both are kept.

Owns identities (the same request sent again finds its first answer), waiting and expiry; refuses to know what is
computed. Invariant: an identity has one request id for as long as its future is kept; another body under it is a
conflict; a result is kept for a while after it was delivered, because a delivered answer can be lost; and a request id
of another tenant is answered as one that was never issued.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from metaclaw.errors import ConflictError, NotFoundError
from metaclaw.training.api.tenants import Tenant

KEEP_DELIVERED_S = 300.0
KEEP_UNCLAIMED_S = 3600.0
MAX_RESULT_BYTES = 512 * 1024 * 1024
_MAX_REMEMBERED_GONE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What retrieve_future answers with."""

    body: bytes
    media_type: str = "application/json"
    as_json: Callable[[bytes], Any] | None = None  # how a binary body reads for a client that takes JSON alone


@dataclass(slots=True, kw_only=True)
class _Future:
    identity: str
    digest: bytes
    owner: str
    result: Result | None = None
    finished_at: float = 0.0
    delivered_at: float | None = None
    task: asyncio.Task[None] | None = None  # only where giving up early is possible
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def num_bytes(self) -> int:
        return 0 if self.result is None else len(self.result.body)


class Futures:
    """All open and recently answered requests of this process."""

    def __init__(self, clock: Callable[[], float], *, max_result_bytes: int = MAX_RESULT_BYTES) -> None:
        self._clock = clock
        self._max_result_bytes = max_result_bytes
        self._futures: dict[str, _Future] = {}
        self._ids: dict[str, str] = {}
        self._gone: OrderedDict[str, tuple[str, str]] = OrderedDict()  # owner, reason
        self._closed = False

    def find(self, identity: str, digest: bytes) -> str | None:
        """The request id of the same request sent before. ``ConflictError`` if its body was another."""
        request_id = self._ids.get(identity)
        if request_id is not None and self._futures[request_id].digest != digest:
            raise ConflictError(f"{identity} was used before with another body; a retry must send the same bytes")
        return request_id

    def open(self, owner: str, identity: str, digest: bytes) -> str:
        """A new request id for an identity that ``find`` does not know."""
        request_id = uuid.uuid4().hex
        self._ids[identity] = request_id
        self._futures[request_id] = _Future(identity=identity, digest=digest, owner=owner)
        return request_id

    def attach(self, request_id: str, task: asyncio.Task[None]) -> None:
        """Let ``cancel`` stop ``task``."""
        self._futures[request_id].task = task

    def cancel(self, tenant: Tenant, request_id: str, result: Result) -> None:
        """Stop the work, if it is of a kind that can be stopped, and answer ``result``; unknown ids are ignored."""
        future = self._futures.get(request_id)
        if future is not None and future.task is not None and tenant.may_use(future.owner):
            future.task.cancel()
            self.finish(request_id, result)

    def finish(self, request_id: str, result: Result) -> None:
        """Store the answer and wake who waits. The first answer stays; a future given up meanwhile takes none."""
        future = self._futures.get(request_id)
        if future is None or future.result is not None:
            return
        future.result, future.finished_at, future.task = result, self._clock(), None
        future.done.set()

    async def wait(self, tenant: Tenant, request_id: str, timeout_s: float) -> Result | None:
        """The result, or ``None`` if there is none in time. ``NotFoundError`` says why an id is not known."""
        future = self._futures.get(request_id)
        if future is None or not tenant.may_use(future.owner):
            owner, reason = self._gone.get(request_id, ("", ""))
            if not reason or not tenant.may_use(owner):
                reason = "it was never issued, or by a server that has been restarted since"
            raise NotFoundError(f"request {request_id[:80]!r} is gone: {reason}")
        if not future.done.is_set() and not self._closed:
            try:
                await asyncio.wait_for(future.done.wait(), timeout_s)
            except TimeoutError:
                return None
        if future.result is not None:
            future.delivered_at = self._clock()
        return future.result

    def expire(self) -> None:
        """Forget what was delivered or finished long ago, and the oldest results beyond the limit of bytes."""
        now = self._clock()
        for request_id, future in list(self._futures.items()):
            if future.delivered_at is not None and now - future.delivered_at > KEEP_DELIVERED_S:
                self._drop(request_id, f"its result was delivered more than {KEEP_DELIVERED_S:.0f} s ago")
            elif future.result is not None and now - future.finished_at > KEEP_UNCLAIMED_S:
                self._drop(request_id, f"nobody fetched its result for {KEEP_UNCLAIMED_S:.0f} s")
        finished = [(future.delivered_at is None, future.finished_at, key) for key, future in self._finished()]
        num_bytes = sum(future.num_bytes for _, future in self._finished())
        for _, _, request_id in sorted(finished):
            if num_bytes <= self._max_result_bytes:
                return
            num_bytes -= self._futures[request_id].num_bytes
            self._drop(request_id, "results took more memory than is kept")

    def close(self) -> None:
        """Send every waiting poll home at once; the server is stopping."""
        self._closed = True
        for future in self._futures.values():
            future.done.set()

    def _finished(self) -> list[tuple[str, _Future]]:
        return [(key, future) for key, future in self._futures.items() if future.result is not None]

    def _drop(self, request_id: str, reason: str) -> None:
        future = self._futures.pop(request_id)
        del self._ids[future.identity]
        self._gone[request_id] = (future.owner, reason)
        while len(self._gone) > _MAX_REMEMBERED_GONE:
            self._gone.popitem(last=False)
