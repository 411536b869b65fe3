"""Any model behind an HTTP API, in whatever dialects that API speaks.

Owns calling it: time limits, the one retry of a connection, and its errors; refuses to know what the answer is for.
Invariant: nothing is sent twice once a byte of the answer has come, and neither our key nor the upstream's headers
are in an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import cast

import aiohttp

from metaclaw.chat.messages import JsonObject, object_or_none
from metaclaw.deadlines import Within
from metaclaw.errors import UpstreamError
from metaclaw.upstreams.answered import answered_object
from metaclaw.upstreams.failed_answers import error_at_once, status_of
from metaclaw.upstreams.http_reply import HttpReply, any_chunk
from metaclaw.upstreams.model_client import NO_HEADERS
from metaclaw.upstreams.posting import MAX_BODY_BYTES, Poster
from metaclaw.upstreams.proxies import ProxyFailedError
from metaclaw.upstreams.refusals import refusal
from metaclaw.upstreams.session import proxy_before
from metaclaw.upstreams.told_headers import told_headers
from metaclaw.upstreams.upstream import Headers, Upstream, passed_on

_CHAT = "openai.chat"
_MAX_ERROR_BYTES = 64 * 1024
_REFUSAL_S = 5.0
_MAX_ANSWER_BYTES = 16 << 20  # of an answer that is read as a whole, here and by nobody else
_MAX_JITTER_S = 0.25
_MAX_ASKED = 64  # dialects and headers, as they are sent, that are remembered


class HttpModel:
    """Calls one upstream over the shared session."""

    def __init__(self, session: aiohttp.ClientSession, upstream: Upstream) -> None:
        self._session = session
        self._poster = Poster(session)
        self._asked_of = lru_cache(_MAX_ASKED)(partial(_asked_of, upstream))
        # Until something can be asked, so with TLS and a proxy's tunnel.
        self._timeout = aiohttp.ClientTimeout(total=None, connect=upstream.timeouts.connect_s)
        self.upstream = upstream
        self.name = upstream.name
        self.dialects = upstream.dialects
        self.is_strict = upstream.is_strict
        self.model_id = upstream.model_id

    async def send(
        self, dialect: str, body: bytes, *, headers: Mapping[str, str] = NO_HEADERS, is_stream: bool = True
    ) -> HttpReply:
        """Post ``body``; return once the first byte of an accepted answer is here. Raises ``UpstreamError``."""
        defaults = self.upstream.extra_body
        data = _with_defaults(body, defaults) if defaults else body
        url, asked = self._asked_of(dialect, passed_on(headers))
        return await self._begin("POST", url, asked, data, is_stream=is_stream)

    async def close(self) -> None:
        """Nothing: the session is its owner's."""

    async def chat(self, body: JsonObject | bytes) -> HttpReply:
        """Post a chat request; return once the first byte of an accepted answer is here. Raises ``UpstreamError``."""
        data = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        return await self.send(_CHAT, data)

    async def models(self) -> list[JsonObject]:
        """What ``GET /models`` lists."""
        url, headers = f"{self.upstream.base_url}/models", self.upstream.request_headers(None)
        listed = answered_object(self.name, await _read_and_close(await self._begin("GET", url, headers))).get("data")
        if not isinstance(listed, list):
            raise UpstreamError(f"{self.name} answered GET /models without a list", status=502)
        return [model for model in cast(list[object], listed) if isinstance(model, dict)]

    async def token_counts(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text takes there, where ``POST /token_counts`` is known: on our training server."""
        url, headers = f"{self.upstream.base_url}/token_counts", self.upstream.request_headers(None)
        body = json.dumps({"texts": list(texts)}, separators=(",", ":")).encode()
        answer = await _read_and_close(await self._begin("POST", url, headers, body))
        counts = answered_object(self.name, answer).get("counts")
        numbers = [one for one in cast(list[object], counts) if type(one) is int] if isinstance(counts, list) else []
        if len(numbers) != len(texts):
            raise UpstreamError(f"{self.name} counted {len(numbers)} of {len(texts)} texts", status=502)
        return numbers

    async def _begin(
        self, method: str, url: str, headers: Headers, data: bytes | None = None, *, is_stream: bool = True
    ) -> HttpReply:
        timeouts = self.upstream.timeouts
        limit_s = timeouts.begins_s(is_stream=is_stream)
        try:
            with Within(limit_s):
                response = await self._asked(method, url, headers, data)
                first = await self._first_chunk(response) if response.status == 200 else b""
        except TimeoutError as error:
            way = proxy_before(self._session, url)
            through = "" if way is None else f" through {way}"
            raise UpstreamError(f"{self.name} sent nothing for {limit_s:g} s{through}", status=504) from error
        try:
            if response.status != 200:
                raise await self._refusal(response)
            reply = HttpReply(self.name, response, first, gap_s=timeouts.gap_s)
            if (error := error_at_once(reply.content_type, first)) is not None:
                raise self._refused(status_of(error), response, json.dumps({"error": error}).encode())
            return reply
        except BaseException:
            response.close()
            raise

    async def _first_chunk(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            first = await any_chunk(self.name, response)
            # OpenRouter sends blanks until it has a plain answer, which may be an error. A stream's keep it alive.
            while first.isspace() and response.content_type != "text/event-stream":
                if not (more := await any_chunk(self.name, response)):
                    break
                first += more
            if not first:
                raise UpstreamError(f"{self.name} answered with nothing", status=502)
            return first
        except BaseException:
            response.close()
            raise

    async def _request(self, method: str, url: str, headers: Headers, data: bytes | None) -> aiohttp.ClientResponse:
        connect_s = self.upstream.timeouts.connect_s
        try:
            if data and (posted := await self._poster.post(url, headers, data, limits=self._timeout)) is not None:
                return posted
            return await self._session.request(
                method,
                url,
                data=_payload(data),
                headers=headers,
                allow_redirects=False,  # a redirect would take the key and the conversation elsewhere
                timeout=self._timeout,
            )
        except aiohttp.ConnectionTimeoutError as error:
            why = f": {error}" if isinstance(error, ProxyFailedError) else ""
            raise UpstreamError(f"{self.name} could not be reached within {connect_s:g} s{why}") from error
        except aiohttp.ClientConnectionError:
            raise  # the one kind that may be gone at the next attempt
        except aiohttp.ClientResponseError as error:  # its text holds what came, headers too
            raise UpstreamError(f"{self.name} does not answer in HTTP that can be read; check its URL") from error
        except (aiohttp.ClientError, ValueError) as error:  # our own URL or key, which may be in the text
            raise UpstreamError(
                f"{self.name} cannot be asked ({type(error).__name__}); check its URL and {self.upstream.key_setting}"
            ) from error

    async def _asked(self, method: str, url: str, headers: Headers, data: bytes | None) -> aiohttp.ClientResponse:
        try:
            return await self._request(method, url, headers, data)
        except aiohttp.ClientConnectionError:
            # Often only a kept-alive connection that the other side had closed meanwhile.
            await asyncio.sleep(random.uniform(0, _MAX_JITTER_S))
        try:
            return await self._request(method, url, headers, data)
        except aiohttp.ClientConnectionError as error:
            raise UpstreamError(f"{self.name} cannot be reached: {error or type(error).__name__}") from error

    async def _refusal(self, response: aiohttp.ClientResponse) -> UpstreamError:
        # The status is here, and says what is to be done; what stands in the body is not waited for long.
        body = b""
        with contextlib.suppress(TimeoutError, aiohttp.ClientError), Within(_REFUSAL_S):
            while len(body) < _MAX_ERROR_BYTES and (chunk := await response.content.readany()):
                body += chunk
        return self._refused(response.status, response, body)

    def _refused(self, status: int, response: aiohttp.ClientResponse, body: bytes) -> UpstreamError:
        upstream = self.upstream
        error = refusal(upstream.name, upstream.key_setting, upstream.api_key, status, response.headers, body)
        error.headers = told_headers(response.raw_headers)
        return error


def _asked_of(upstream: Upstream, dialect: str, passed: Headers) -> tuple[str, Headers]:
    return upstream.url(dialect), upstream.request_headers(dialect, passed)


def _with_defaults(body: bytes, defaults: JsonObject) -> bytes:
    merged = {**defaults, **json.loads(body)}
    for name, value in defaults.items():
        theirs = object_or_none(merged[name])
        if isinstance(value, dict) and theirs is not None:
            merged[name] = {**value, **theirs}
    return json.dumps(merged, separators=(",", ":")).encode()


def _payload(data: bytes | None) -> aiohttp.BytesPayload | io.BytesIO | None:
    # A file is written piece by piece; bytes of this size at once would hold up every other turn.
    if not data:
        return None
    return io.BytesIO(data) if len(data) > MAX_BODY_BYTES else aiohttp.BytesPayload(data)


async def _read_and_close(reply: HttpReply) -> bytes:
    try:
        return await reply.read(max_bytes=_MAX_ANSWER_BYTES)
    finally:
        reply.close()
