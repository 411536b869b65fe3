"""The one HTTP client of a process.

Owns the settings of the connection pool and the way out; refuses to know whom it calls. Invariant: one session lives as
long as the process that calls models, because a new client per request costs a TLS context each.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from metaclaw.upstreams.proxies import Proxies, Proxy, through

_KEEP_ALIVE_S = 30.0
# Of TCP: seconds without a sign until it asks for one, between asking again, how often; and milliseconds in which what
# was sent has not even been received, after which the other end is gone.
WATCHING = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}
_MAX_HEADER_BYTES = 64 * 1024  # of one header; proxies before a model add long ones

_log = logging.getLogger(__name__)
_ways: WeakKeyDictionary[aiohttp.ClientSession, Proxies] = WeakKeyDictionary()


def new_session(environment: Mapping[str, str] = os.environ) -> aiohttp.ClientSession:
    """A client session for all upstreams of this process. Use it with ``async with``, inside the running loop.

    The proxies are those that ``environment`` names now.
    """
    proxies = Proxies.of(environment)
    if proxies is not None:
        for proxy in dict.fromkeys(proxies.by_scheme.values()):
            if proxy.trouble:
                _log.warning("%s %s: what is not on this machine cannot be asked", proxy, proxy.trouble)
            else:
                _log.info("what is not on this machine is asked through %s", proxy)
    session = aiohttp.ClientSession(
        # No limit: the number of turns in flight is bounded by those who ask, and a hidden queue here would look
        # like a slow upstream.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S, socket_factory=_watched_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=True,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
        middlewares=() if proxies is None else (through(proxies),),
    )
    if proxies is not None:
        _ways[session] = proxies
    return session


def _watched_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices soon when nobody is at its other end any more.

    After a laptop slept, or a router forgot, kept connections look well and answer nothing: a request on one of them
    waited for its first byte until that was given up.
    """
    family, kind, protocol = address[:3]
    watched = socket.socket(family, kind, protocol)
    watched.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in WATCHING.items():
        if (option := getattr(socket, name, None)) is not None:  # each system has some of them
            watched.setsockopt(socket.IPPROTO_TCP, option, value)
    return watched


def proxy_before(session: aiohttp.ClientSession, url: str) -> Proxy | None:
    """The proxy that ``session`` asks ``url`` through."""
    proxies = _ways.get(session)
    return None if proxies is None else proxies.on_the_way_to(URL(url))
