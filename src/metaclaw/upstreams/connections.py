"""Connections to models, some of them kept for the next request.

Owns which are kept, and what becomes of them while the machine sleeps; refuses to know requests. Invariant: none is
used again that was kept before a sleep, that still has to write, or on which something came that nobody asked for. The
first two look well and may answer nothing: whatever stood between has forgotten it, or the other end answered early and
reads no more, and a request would wait for its first byte until that is given up. The last would answer with what was
another's.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

_KEEP_ALIVE_S = 30.0
_SLEPT_S = 5.0  # by which the clock on the wall got ahead: a clock that is set costs a few connections, no more
# Of TCP, in seconds: how long without a sign from the other end until it is asked for one, between asking again, and
# how often: so a machine that is gone is noticed where nothing else is said for as long as a model thinks.
_WATCHING = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}

Clock = Callable[[], float]


class Connector(aiohttp.TCPConnector):
    """Any number of connections. ``monotonic`` stands still while the machine sleeps, ``wall`` does not."""

    def __init__(self, *, wall: Clock = time.time, monotonic: Clock = time.monotonic) -> None:
        # No limit: the number of turns in flight is bounded by those who ask, and a hidden queue here would look
        # like a slow upstream.
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            limit=0, keepalive_timeout=_KEEP_ALIVE_S, socket_factory=watched_socket
        )
        self._wall = wall
        self._monotonic = monotonic
        self._apart_s = wall() - monotonic()

    async def connect(self, *asked: Any, **options: Any) -> Connection:
        """A connection for a request, a kept one if there is one that can be trusted."""
        apart_s = self._wall() - self._monotonic()
        if apart_s - self._apart_s > _SLEPT_S:
            for kept in self._conns.values():
                for protocol, _ in kept:
                    protocol.close()  # whoever looks for a kept one passes over those that are closed
        self._apart_s = apart_s
        return await super().connect(*asked, **options)

    async def _get(self, key: Any, traces: Any) -> Connection | None:
        while (kept := await super()._get(key, traces)) is not None:
            if kept.protocol is not None and not kept.protocol.should_close:
                return kept
            kept.close()  # something came on it meanwhile, which would be read as the answer to another's request
        return None

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        transport = protocol.transport
        if transport is not None and transport.get_write_buffer_size():
            # Closed, it would be there until the other end has read the rest, which it may never do.
            protocol.abort()
            should_close = True
        super()._release(key, protocol, should_close=should_close)


def watched_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for what ``getaddrinfo`` said, that notices when nobody is at its other end any more."""
    family, kind, protocol = address[:3]
    watched = socket.socket(family, kind, protocol)
    with suppress(OSError):  # a system, or a sandbox, may refuse: then as ever, for models are to be reached at all
        watched.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _WATCHING.items():
        if (option := getattr(socket, name, None)) is not None:  # each system has some of them
            with suppress(OSError):
                watched.setsockopt(socket.IPPROTO_TCP, option, value)
    return watched
