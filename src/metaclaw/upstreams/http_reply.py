"""The body of an answer that comes over HTTP, as it comes.

Owns reading it, with the limit on silence; refuses to know what was asked. Invariant: what breaks or falls silent is an
``UpstreamError``, never an answer that looks complete.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping

import aiohttp

from metaclaw.deadlines import Within
from metaclaw.errors import UpstreamError
from metaclaw.upstreams.told_headers import told_headers

_FINISH_S = 0.5
_JSON, _EVENTS = "application/json", "text/event-stream"
_EVENT_BEGINS = (b"data:", b"event:", b"id:", b"retry:", b":")


class HttpReply:
    """An accepted answer whose first byte has come. Close it, read to the end or not."""

    def __init__(self, name: str, response: aiohttp.ClientResponse, first: bytes, *, gap_s: float) -> None:
        self._name = name
        self._response = response
        self._first: bytes | None = first
        self._gap_s = gap_s
        self._silence: Within | None = None
        self._content_type = _content_type(response.headers.get("Content-Type", _JSON), first)

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def content_type(self) -> str:
        """What the body is: what its first bytes say goes before what its header does."""
        return self._content_type

    @property
    def headers(self) -> Mapping[str, str]:
        """What came with it for the client, by names in lower case."""
        return told_headers(self._response.raw_headers)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it comes; asked again, what has not come yet.

        Raises ``UpstreamError`` when it breaks or falls silent.
        """
        chunk, self._first = self._first, None
        if chunk is None:
            chunk = await self._next()
        while chunk:
            yield chunk
            chunk = await self._next()

    async def read(self, *, max_bytes: int | None = None) -> bytes:
        """The whole body. Raises ``UpstreamError`` as ``chunks`` does, and when it is longer than ``max_bytes``."""
        chunk, self._first = self._first, None
        whole = [] if chunk is None else [chunk]
        size = len(chunk or b"")
        while chunk := await self._next():
            whole.append(chunk)
            size += len(chunk)
            if max_bytes is not None and size > max_bytes:
                # About what was asked, not an outage: it would be as long the next time.
                raise UpstreamError(f"{self._name} answered with more than {max_bytes >> 20} MB", status=422)
        return whole[0] if len(whole) == 1 else b"".join(whole)

    async def finish(self) -> None:
        """Let the body end, so that its connection can be used again; not for long, for nothing more is wanted."""
        with contextlib.suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(_FINISH_S):
                while await self._response.content.readany():
                    pass

    def close(self) -> None:
        """Give the connection back, or cut it when the answer is not complete: that cancels it at the upstream."""
        if not self._response.closed:  # as it is when all of it was read
            self._response.close()

    async def _next(self) -> bytes:
        content = self._response.content
        if content.at_eof() and content.exception() is None:  # an end that is known needs no limit
            return b""
        silence = self._silence = self._silence or Within(self._gap_s)
        try:
            with silence:
                return await content.readany()
        except aiohttp.ClientError as error:
            raise _broken(self._name) from error
        except TimeoutError as error:
            raise UpstreamError(f"timeout: {self._name} fell silent for {self._gap_s:g} s", status=504) from error


def _content_type(said: str, first: bytes) -> str:
    if not (said.isascii() and said.isprintable()):  # no server can pass it on
        said = _JSON
    # Some servers send events as text/plain, others an error as events. Direct clients never look at the header.
    begun = first.lstrip()
    is_events = said.lower().startswith(_EVENTS)
    if begun.startswith(b"{"):
        return _JSON if is_events else said
    if is_events or (begun and any(begun.startswith(mark) or mark.startswith(begun) for mark in _EVENT_BEGINS)):
        return said if said.startswith(_EVENTS) else _EVENTS
    return said


async def any_chunk(name: str, response: aiohttp.ClientResponse) -> bytes:
    """What comes next, however long it takes; empty at the end. Raises ``UpstreamError``."""
    try:
        return await response.content.readany()
    except aiohttp.ClientError as error:
        raise _broken(name) from error


def _broken(name: str) -> UpstreamError:
    # In these words agents know what may be asked again (OpenClaw reads them in Anthropic's streams).
    return UpstreamError(f"connection error: {name} broke off its answer", status=502)
