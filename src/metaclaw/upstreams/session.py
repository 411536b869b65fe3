"""The one HTTP client of a process.

Owns the settings of the connection pool; refuses to know whom it calls. Invariant: one session lives as long as the
process that calls models, because a new client per request costs a TLS context each.
"""

from __future__ import annotations

import aiohttp

_KEEP_ALIVE_S = 30.0
_MAX_HEADER_BYTES = 64 * 1024  # of one header; proxies before a model add long ones


def new_session() -> aiohttp.ClientSession:
    """A client session for all upstreams of this process. Use it with ``async with``, inside the running loop."""
    return aiohttp.ClientSession(
        # No limit: the number of turns in flight is bounded by those who ask, and a hidden queue here would look
        # like a slow upstream.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=True,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
    )
