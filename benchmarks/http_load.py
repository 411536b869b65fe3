"""A load generator with headroom: HTTP/1.1 over kept-alive sockets, nothing parsed that is not measured.

Owns asking many times and keeping what was seen; refuses to know what is asked. Invariant: it stops by itself, after
``num_requests``, which ``concurrency`` connections share.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_CHUNKED = b"transfer-encoding: chunked"
_LENGTH = b"content-length: "


@dataclass(slots=True)
class Load:
    """What was seen, in seconds, without what the model itself was to take."""

    totals: list[float] = field(default_factory=list[float])
    firsts: list[float] = field(default_factory=list[float])  # to the first byte of the body
    gaps: list[float] = field(default_factory=list[float])  # between two pieces of a streamed body
    statuses: dict[int, int] = field(default_factory=dict[int, int])
    wall_s: float = 0.0

    def percentile_ms(self, percent: int, of: str = "totals") -> float:
        values: list[float] = getattr(self, of)
        if len(values) < 2:
            return 1e3 * sum(values)
        return 1e3 * statistics.quantiles(values, n=100, method="inclusive")[percent - 1]

    @property
    def per_s(self) -> float:
        return len(self.totals) / self.wall_s

    def add(self, other: Load) -> None:
        self.totals += other.totals
        self.firsts += other.firsts
        self.gaps += other.gaps
        self.wall_s += other.wall_s
        for status, count in other.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count


async def load(
    port: int,
    path: str,
    body: Callable[[int], bytes],
    *,
    token: str,
    num_requests: int,
    concurrency: int,
    host: str = "127.0.0.1",
    models_own_s: Callable[[bytes], float] = lambda body: 0.0,
) -> Load:
    """Ask a server ``num_requests`` times; ``body`` makes the request of a number."""
    seen = Load()
    numbers = iter(range(num_requests))
    start = time.perf_counter()
    await asyncio.gather(
        *(_talk(host, port, path, body, token, numbers, seen, models_own_s) for _ in range(concurrency))
    )
    seen.wall_s = time.perf_counter() - start
    return seen


async def _talk(
    host: str,
    port: int,
    path: str,
    body: Callable[[int], bytes],
    token: str,
    numbers: Iterator[int],
    seen: Load,
    models_own_s: Callable[[bytes], float],
) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    for number in numbers:
        data = body(number)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        own_s = models_own_s(data)
        start = time.perf_counter() + own_s
        writer.write(head.encode() + data)
        await _answer(reader, start, seen)
        seen.totals.append(time.perf_counter() - start)
    writer.close()


async def _answer(reader: asyncio.StreamReader, start: float, seen: Load) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    seen.statuses[status] = seen.statuses.get(status, 0) + 1
    if _CHUNKED not in head:
        begin = head.index(_LENGTH) + len(_LENGTH)
        await reader.readexactly(int(head[begin : head.index(b"\r\n", begin)]))
        seen.firsts.append(time.perf_counter() - start)
        return
    last = 0.0
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
        now = time.perf_counter()
        seen.gaps.append(now - last) if last else seen.firsts.append(now - start)
        last = now
    await reader.readexactly(2)
