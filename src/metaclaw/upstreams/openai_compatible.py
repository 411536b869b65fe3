"""Any model behind an OpenAI-compatible API.

Owns calling it: authentication, time limits, the one retry, and its errors; refuses to know what the answer is for.
Invariant: nothing is sent twice once a byte of the answer has come, and neither our key nor the upstream's headers
are in an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import cast

import aiohttp
from pydantic import SecretStr

from metaclaw.chat.messages import JsonObject, text_of
from metaclaw.chat.openai_chat import object_or_none, parse_answer
from metaclaw.errors import UpstreamError
from metaclaw.upstreams.refusals import refusal

_MAX_ERROR_BYTES = 64 * 1024
_LARGE_BYTES = 256 * 1024
_MAX_JITTER_S = 0.25
_FINISH_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """``first_byte_s`` runs from sending the request, the retry included, to the first byte of the body; ``gap_s``
    between two chunks."""

    connect_s: float = 10.0
    first_byte_s: float = 120.0
    gap_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where a model is. ``key_setting`` names the setting that a user mends when the key is refused."""

    name: str
    base_url: str  # ends in /v1
    api_key: SecretStr
    key_setting: str
    timeouts: Timeouts


class UpstreamReply:
    """An accepted answer whose first byte has come. Close it, read to the end or not."""

    def __init__(self, upstream: Upstream, response: aiohttp.ClientResponse, first: bytes) -> None:
        self._upstream = upstream
        self._response = response
        self._first: bytes | None = first

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def content_type(self) -> str:
        return self._response.headers.get("Content-Type", "application/json")

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

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def finish(self) -> None:
        """Let the body end, so that its connection can be used again; not for long, for nothing more is wanted."""
        with contextlib.suppress(TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(_FINISH_S):
                while await self._response.content.readany():
                    pass

    async def _next(self) -> bytes:
        return await _next_chunk(self._upstream, self._response, self._upstream.timeouts.gap_s)

    def close(self) -> None:
        """Give the connection back, or cut it when the answer is not complete: that cancels it at the upstream."""
        self._response.close()


class OpenAICompatible:
    """Calls one upstream over the shared session."""

    def __init__(self, session: aiohttp.ClientSession, upstream: Upstream) -> None:
        self._session = session
        self.upstream = upstream

    @property
    def name(self) -> str:
        return self.upstream.name

    async def chat(self, body: JsonObject | bytes) -> UpstreamReply:
        """Post a chat request; return once the first byte of an accepted answer is here. Raises ``UpstreamError``."""
        data = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        return await self._begin("POST", "/chat/completions", data)

    async def models(self) -> list[JsonObject]:
        """What ``GET /models`` lists."""
        reply = await self._begin("GET", "/models")
        listed = self._object(await _read_and_close(reply)).get("data")
        if not isinstance(listed, list):
            raise UpstreamError(f"{self.name} answered GET /models without a list", status=502)
        return [model for model in cast(list[object], listed) if isinstance(model, dict)]

    async def complete(
        self,
        messages: Sequence[JsonObject],
        *,
        model: str,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """The text of one plain answer. Raises ``UpstreamError``; an answer without a message is one."""
        settings = {"temperature": temperature, "max_tokens": max_tokens}
        body = {"model": model, "messages": list(messages), **{k: v for k, v in settings.items() if v is not None}}
        try:
            async with asyncio.timeout(timeout_s):
                answer = parse_answer(self._object(await _read_and_close(await self.chat(body))))
        except TimeoutError as error:
            raise UpstreamError(f"{self.name} took longer than {timeout_s:g} s", status=504) from error
        if answer.message is None:
            raise UpstreamError(f"{self.name} answered without a message", status=502)
        return text_of(answer.message.get("content"))

    async def _begin(self, method: str, path: str, data: bytes | None = None) -> UpstreamReply:
        limit_s = self.upstream.timeouts.first_byte_s
        try:
            async with asyncio.timeout(limit_s):
                response = await self._with_one_retry(lambda: self._request(method, path, data))
                first = await self._first_chunk(response) if response.status == 200 else b""
        except TimeoutError as error:
            raise UpstreamError(f"{self.name} sent nothing for {limit_s:g} s", status=504) from error
        if response.status == 200:
            return UpstreamReply(self.upstream, response, first)
        try:
            raise await self._refusal(response)
        finally:
            response.close()

    async def _first_chunk(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await _any_chunk(self.upstream, response)
        except BaseException:
            response.close()
            raise

    async def _request(self, method: str, path: str, data: bytes | None) -> aiohttp.ClientResponse:
        timeouts = self.upstream.timeouts
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key := self.upstream.api_key.get_secret_value():
            headers["Authorization"] = f"Bearer {key}"
        try:
            return await self._session.request(
                method,
                self.upstream.base_url + path,
                data=_payload(data),
                headers=headers,
                allow_redirects=False,  # a redirect would take the key and the conversation elsewhere
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect_s),
            )
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamError(f"{self.name} could not be reached within {timeouts.connect_s:g} s") from error
        except aiohttp.ClientConnectionError:
            raise  # the one kind that may be gone at the next attempt
        except aiohttp.ClientResponseError as error:  # its text holds what came, headers too
            raise UpstreamError(f"{self.name} does not answer in HTTP that can be read; check its URL") from error
        except (aiohttp.ClientError, ValueError) as error:  # our own URL or key, which may be in the text
            raise UpstreamError(
                f"{self.name} cannot be asked ({type(error).__name__}); check its URL and {self.upstream.key_setting}"
            ) from error

    async def _with_one_retry(self, attempt: Callable[[], Awaitable[aiohttp.ClientResponse]]) -> aiohttp.ClientResponse:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            return await attempt()
        # Often only a kept-alive connection that the other side had closed meanwhile.
        await asyncio.sleep(random.uniform(0, _MAX_JITTER_S))
        try:
            return await attempt()
        except aiohttp.ClientConnectionError as error:
            raise UpstreamError(f"{self.name} cannot be reached: {error or type(error).__name__}") from error

    async def _refusal(self, response: aiohttp.ClientResponse) -> UpstreamError:
        body = b""
        while len(body) < _MAX_ERROR_BYTES:
            chunk = await _next_chunk(self.upstream, response, self.upstream.timeouts.gap_s)
            if not chunk:
                break
            body += chunk
        upstream = self.upstream
        return refusal(upstream.name, upstream.key_setting, upstream.api_key, response.status, response.headers, body)

    def _object(self, body: bytes) -> JsonObject:
        try:
            value = object_or_none(json.loads(body))
        except ValueError as error:
            raise UpstreamError(f"{self.name} answered with something that is not JSON", status=502) from error
        if value is None:
            raise UpstreamError(f"{self.name} answered with something that is not an object", status=502)
        return value


def _payload(data: bytes | None) -> bytes | io.BytesIO | None:
    # A file is written piece by piece; bytes of this size at once would hold up every other turn.
    return io.BytesIO(data) if data and len(data) > _LARGE_BYTES else data


async def _read_and_close(reply: UpstreamReply) -> bytes:
    try:
        return await reply.read()
    finally:
        reply.close()


async def _next_chunk(upstream: Upstream, response: aiohttp.ClientResponse, limit_s: float) -> bytes:
    try:
        async with asyncio.timeout(limit_s):
            return await _any_chunk(upstream, response)
    except TimeoutError as error:
        raise UpstreamError(f"{upstream.name} fell silent for {limit_s:g} s", status=504) from error


async def _any_chunk(upstream: Upstream, response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.readany()
    except aiohttp.ClientError as error:
        raise UpstreamError(f"{upstream.name} broke off its answer", status=502) from error
