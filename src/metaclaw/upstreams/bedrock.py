"""Anthropic's models on Amazon Bedrock.

Owns the calls through AWS's SDK, in threads of its own, and what its errors mean; refuses to know where the credentials
come from, which the SDK does. Invariant: a body goes as it came but for the model and the stream flag, which are not in
the body there, and marks of a cache that Bedrock would refuse; and what comes back are the model's own events; so
nothing of Anthropic's dialect is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar

from metaclaw.chat.anthropic.caching import with_marks_for_bedrock
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.sse import encode_event
from metaclaw.deadlines import Within
from metaclaw.errors import InvalidRequestError, UpstreamError
from metaclaw.extras import load_backend
from metaclaw.upstreams.model_client import NO_HEADERS
from metaclaw.upstreams.refusals import retry_after_s
from metaclaw.upstreams.upstream import Timeouts

_MESSAGES = "anthropic.messages"
_VERSION = "bedrock-2023-05-31"
_MAX_THREADS = 64
_MODEL_FAILED = 424  # Bedrock's own status for a model that broke, which is no fault of the request

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BedrockSettings:
    """``endpoint`` is empty for the region's own."""

    name: str
    region: str
    endpoint: str
    model_id: str
    timeouts: Timeouts


class BedrockModel:
    """Asks one region with the credentials that the SDK finds."""

    def __init__(self, settings: BedrockSettings) -> None:
        self._settings = settings
        self._boto3 = load_backend("boto3", extra="bedrock")
        self._exceptions = load_backend("botocore.exceptions", extra="bedrock")
        self._transport = load_backend("urllib3.exceptions", extra="bedrock")
        self._threads = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="bedrock")
        self._lock = Lock()

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def dialects(self) -> tuple[str, ...]:
        return (_MESSAGES,)

    @property
    def is_strict(self) -> bool:
        return False

    @property
    def model_id(self) -> str:
        return self._settings.model_id

    async def models(self) -> list[JsonObject]:
        """The configured model; the list of Bedrock is another service with rights of its own."""
        return [{"id": self.model_id, "object": "model", "owned_by": self.name}] if self.model_id else []

    async def close(self) -> None:
        """Take no more calls; one that still waits ends at its own limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(
        self, dialect: str, body: bytes, *, headers: Mapping[str, str] = NO_HEADERS, is_stream: bool = True
    ) -> BedrockReply:
        """Ask; return once the first event is here. Raises ``UpstreamError`` and ``InvalidRequestError``."""
        if dialect != _MESSAGES:
            raise InvalidRequestError(f"{self.name} speaks {_MESSAGES} only, not {dialect}")
        request: JsonObject = json.loads(body)
        model = request.pop("model", None) or self.model_id
        if not model:
            raise InvalidRequestError(f"{self.name} needs a 'model'", param="model")
        asks_for_stream = bool(request.pop("stream", False))
        request = with_marks_for_bedrock(request, str(model))
        data = json.dumps({"anthropic_version": _VERSION, **request}, separators=(",", ":")).encode()
        limit_s = self._settings.timeouts.begins_s(is_stream=asks_for_stream)
        reply = BedrockReply(self, is_stream=asks_for_stream, gap_s=self._settings.timeouts.gap_s)
        try:
            async with asyncio.timeout(limit_s):
                await reply.begin(model, data)
        except TimeoutError as error:
            reply.close()
            raise UpstreamError(f"{self.name} sent nothing for {limit_s:g} s", status=504) from error
        except BaseException:
            reply.close()
            raise
        return reply

    async def in_thread(self, call: Callable[[], T]) -> T:
        """What ``call`` returns, made in a thread. Raises ``UpstreamError``."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except self._exceptions.ClientError as error:
            raise self._refusal(error) from error
        except self._exceptions.ReadTimeoutError as error:
            raise UpstreamError(f"{self.name} sent nothing in time", status=504) from error
        except (self._exceptions.NoCredentialsError, self._exceptions.PartialCredentialsError) as error:
            message = f"{self.name} has no credentials: set AWS_ACCESS_KEY_ID, AWS_PROFILE or a role"
            raise UpstreamError(message, status=401) from error
        except (self._transport.HTTPError, OSError) as error:  # inside a stream the SDK lets them through
            raise UpstreamError(f"{self.name} broke off its answer ({type(error).__name__})", status=502) from error
        except self._exceptions.BotoCoreError as error:
            raise UpstreamError(f"{self.name} cannot be asked ({type(error).__name__})") from error

    def invoke(self, model: str, data: bytes, *, is_stream: bool) -> Any:
        """In a thread: the body of an answer, to be read."""
        call = self._client.invoke_model_with_response_stream if is_stream else self._client.invoke_model
        return call(modelId=model, body=data, contentType="application/json", accept="application/json")["body"]

    @cached_property
    def _made_client(self) -> Any:
        timeouts = self._settings.timeouts
        config = load_backend("botocore.config", extra="bedrock").Config(
            connect_timeout=timeouts.connect_s,
            read_timeout=max(timeouts.begins_s(is_stream=False), timeouts.gap_s),
            retries={"total_max_attempts": 1},  # others than the SDK know whom to ask next
            max_pool_connections=_MAX_THREADS,
        )
        return self._boto3.session.Session().client(
            "bedrock-runtime",
            region_name=self._settings.region,
            endpoint_url=self._settings.endpoint or None,
            config=config,
        )

    @property
    def _client(self) -> Any:
        with self._lock:  # the SDK reads files to make one, and not every part of that may be done twice at once
            return self._made_client

    def _refusal(self, error: Any) -> UpstreamError:
        details, answer = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        code, status = details.get("Code", "unknown"), answer.get("HTTPStatusCode")
        if status in (401, 403):
            # Its own text is left out: it has the account and the role in it.
            return UpstreamError(f"{self.name} refused our credentials (HTTP {status}, {code})", status=status)
        said = str(details.get("Message", ""))[:2000]
        return UpstreamError(
            f"{self.name} answered {status or code}: {said}",
            status=502 if status in (None, 200, _MODEL_FAILED) else status,
            retry_after_s=retry_after_s(answer.get("HTTPHeaders", {}).get("retry-after", "")),
            detail={"type": code, "message": details.get("Message", "")},
            said=said,
        )


class BedrockReply:
    """An answer that has begun. Close it, read to the end or not."""

    def __init__(self, model: BedrockModel, *, is_stream: bool, gap_s: float) -> None:
        self._model = model
        self._is_stream = is_stream
        self._gap_s = gap_s
        self._body: Any = None
        self._is_closed = False
        self._chunks: AsyncGenerator[bytes] = self._all(b"")

    @property
    def status(self) -> int:
        return 200

    @property
    def content_type(self) -> str:
        return "text/event-stream" if self._is_stream else "application/json"

    @property
    def headers(self) -> Mapping[str, str]:
        return NO_HEADERS

    async def begin(self, model: str, data: bytes) -> None:
        """Ask, and wait for the first event, or for a plain answer as a whole."""

        def ask() -> tuple[bytes, Callable[[], bytes]]:
            body = self._model.invoke(model, data, is_stream=self._is_stream)
            self._body = body
            if self._is_closed:  # given up while this thread was waiting
                body.close()
                return b"", lambda: b""
            if not self._is_stream:
                return body.read(), lambda: b""
            events = _events(body)
            return next(events, b""), lambda: next(events, b"")

        first, more = await self._model.in_thread(ask)
        self._chunks = self._all(first, more)

    def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it comes; asked again, what has not come yet. Raises ``UpstreamError`` when it breaks."""
        return self._chunks

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self._chunks])

    async def finish(self) -> None:
        """Let the body end, so that its connection can be used again."""
        with contextlib.suppress(UpstreamError):
            async for _ in self._chunks:
                pass

    def close(self) -> None:
        """Cut the connection; the thread that waits for it, if any, ends with it."""
        self._is_closed = True
        if self._body is None:
            return
        # Closing alone does not wake a thread that reads. Of a body that was read to its end nothing is left to end.
        if shutdown := getattr(getattr(self._body, "_raw_stream", None), "shutdown", None):
            with contextlib.suppress(ValueError, RuntimeError):
                shutdown()
        self._body.close()

    async def _all(self, first: bytes, more: Callable[[], bytes] = bytes) -> AsyncGenerator[bytes]:
        chunk = first
        while chunk:
            yield chunk
            try:
                with Within(self._gap_s):
                    chunk = await self._model.in_thread(more)
            except TimeoutError as error:
                raise UpstreamError(f"{self._model.name} fell silent for {self._gap_s:g} s", status=504) from error


def _events(body: Any) -> Iterator[bytes]:
    for event in body:
        data = event.get("chunk", {}).get("bytes", b"")
        if data:
            yield encode_event(data.decode(), _kind(data))


def _kind(data: bytes) -> str:
    try:
        return str(json.loads(data).get("type", "message"))
    except ValueError:
        return "message"
