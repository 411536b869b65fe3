"""The one HTTP client of a process.

Owns its settings and the way out; refuses to know whom it calls. Invariant: one session lives as
long as the process that calls models, because a new client per request costs a TLS context each.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from metaclaw.upstreams.connections import Connector
from metaclaw.upstreams.proxies import Proxies, Proxy, through

MAX_HEADER_BYTES = 64 * 1024  # of one header; proxies before a model add long ones

_log = logging.getLogger(__name__)
_ways: WeakKeyDictionary[aiohttp.ClientSession, Proxies] = WeakKeyDictionary()


def new_session(
    environment: Mapping[str, str] = os.environ, *, connector: Connector | None = None
) -> aiohttp.ClientSession:
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
        connector=connector or Connector(),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=True,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        middlewares=() if proxies is None else (through(proxies),),
    )
    if proxies is not None:
        _ways[session] = proxies
    return session


def proxy_before(session: aiohttp.ClientSession, url: str) -> Proxy | None:
    """The proxy that ``session`` asks ``url`` through."""
    proxies = _ways.get(session)
    return None if proxies is None else proxies.on_the_way_to(URL(url))
