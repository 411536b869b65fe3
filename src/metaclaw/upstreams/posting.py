"""Posts over the session's own connections, by a shorter way than the session takes.

Owns writing a request whose body is small onto a connection of aiohttp's; refuses to know what is asked and what a
failure means. Invariant: neither the model nor the caller sees a difference: the same bytes go out, the same answer
comes, and what fails raises what the session raises.

A session makes the URL, the headers, a writer and a task for each body anew: more than half of what asking costs, and a
turn asks once. Its connections, TLS, the parser of answers and the answers themselves are used as they are. What is
used of them is no promise of aiohttp's, so other versions than those that this was tested with are asked by the session
itself, and so is what goes through a proxy.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

import aiohttp
from aiohttp import hdrs
from aiohttp.helpers import TimerNoop
from yarl import URL

from metaclaw.upstreams.session import MAX_HEADER_BYTES, proxy_before
from metaclaw.upstreams.upstream import Headers

MAX_BODY_BYTES = 256 * 1024  # more at once would hold up every other turn
# What TLS still has to write it does not tell; the session waits for more than this, and sees an answer that is early.
_MAX_TLS_BODY_BYTES = 64 * 1024
_TESTED = ("3.14.",)
_SCHEMES = ("http", "https")
_MAX_WAYS = 64  # addresses and headers that are remembered
_REFUSED = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")  # in a header, or left out of it
_NO_TIMER = TimerNoop()


class _Sent:
    """A body that went out at once; the session's writer in the place of which this stands counts its bytes."""

    output_size = 0


_SENT = cast(Any, _Sent())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """``head`` is all of it but the body's length. ``request`` says where to, ``url`` and ``info`` are of it.

    A body of more than ``max_bytes`` goes another way.
    """

    request: aiohttp.ClientRequest
    url: URL
    info: aiohttp.RequestInfo
    head: bytes
    max_bytes: int


class Poster:
    """Posts over one session."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._way = lru_cache(_MAX_WAYS)(partial(_way_to, session))

    async def post(
        self, url: str, headers: Headers, data: bytes, *, limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse | None:
        """The answer, its body still to come; ``None`` where the session is to be asked. Raises what that would."""
        connector = self._session.connector
        if connector is None or not 0 < len(data) <= MAX_BODY_BYTES:
            return None
        way = self._way(url, headers)
        if way is None or len(data) > way.max_bytes:
            return None
        try:
            connection = await connector.connect(way.request, traces=[], timeout=limits)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {url}") from error
        try:
            return await self._ask(way, connection, data)
        except OSError as error:
            connection.close()
            if isinstance(error, aiohttp.ClientError):
                raise
            raise aiohttp.ClientOSError(*error.args) from error
        except BaseException:
            connection.close()
            raise

    async def _ask(self, way: _Way, connection: aiohttp.connector.Connection, data: bytes) -> aiohttp.ClientResponse:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None or transport.is_closing():  # it hung up at once
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        protocol.set_response_params(
            read_until_eof=True, max_line_size=MAX_HEADER_BYTES, max_field_size=MAX_HEADER_BYTES
        )
        transport.write(b"%b%d\r\n\r\n%b" % (way.head, len(data), data))
        response = aiohttp.ClientResponse(
            "POST",
            way.url,
            writer=None,
            continue100=None,
            timer=_NO_TIMER,
            request_info=way.info,
            traces=[],
            loop=way.request.loop,
            session=self._session,
            stream_writer=_SENT,
        )
        try:
            return await response.start(connection)
        except BaseException:
            response.close()
            raise


def _way_to(session: aiohttp.ClientSession, url: str, headers: Headers) -> _Way | None:
    if not aiohttp.__version__.startswith(_TESTED) or proxy_before(session, url) is not None:
        return None
    loop = asyncio.get_running_loop()
    try:
        request = aiohttp.ClientRequest("POST", URL(url), headers=headers, loop=loop, session=session)
    except ValueError:  # the session says what is wrong with it
        return None
    sent = request.headers
    if (
        request.url.scheme not in _SCHEMES
        or not request.url.raw_host
        or request.auth is not None
        or hdrs.CONTENT_TYPE not in sent
    ):
        return None
    sent.pop(hdrs.CONTENT_LENGTH, None)
    lines = [f"POST {request.url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    if any(_REFUSED.search(line) for line in lines):
        return None
    head = "\r\n".join([*lines, f"{hdrs.CONTENT_LENGTH}: "]).encode()
    max_bytes = _MAX_TLS_BODY_BYTES if request.is_ssl() else MAX_BODY_BYTES
    return _Way(request=request, url=request.url, info=request.request_info, head=head, max_bytes=max_bytes)
