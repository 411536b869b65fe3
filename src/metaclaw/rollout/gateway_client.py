"""The gateway as an agent program sees it.

Owns the requests, their headers and what is tried again; refuses to know tasks and tools. Invariant: everything goes
over HTTP with the user's token, as any agent's does, and a failure names the address and what the gateway said.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from metaclaw.errors import MetaClawError

Json = dict[str, Any]

_TRY_AGAIN = (429, 502, 503, 504)
_ATTEMPTS = 4
_LONGEST_WAIT_S = 30.0
_TIMEOUT_S = 1800.0  # a small machine answers slowly


class GatewayError(MetaClawError, ConnectionError):
    """The gateway did not do what it was asked for."""

    code = "gateway_failed"
    retryable: ClassVar[bool] = True


class Function(BaseModel):
    """What a model calls. Its arguments are JSON, or what it takes for JSON."""

    name: str
    arguments: str = ""


class _Call(BaseModel):
    id: str
    function: Function


class _Message(BaseModel):
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[_Call] | None = None

    @property
    def said(self) -> str:
        if isinstance(self.content, list):
            return "".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class _Choice(BaseModel):
    message: _Message


class _Usage(BaseModel):
    completion_tokens: int = 0


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of the model: ``message`` as it came, what of it is used, and the gateway's name of the turn."""

    message: Json
    text: str
    calls: tuple[tuple[str, Function], ...]
    turn: str
    tokens: int


class GatewayClient:
    """Asks at ``url`` (without ``/v1``) with ``token``."""

    def __init__(self, session: aiohttp.ClientSession, *, url: str, token: str, model: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._token = token
        self._model = model

    async def ask(
        self, messages: Sequence[Json], tools: Sequence[Json], *, session: str, agent: str | None, is_last: bool = False
    ) -> Answer:
        """The next answer of the conversation, which ``is_last`` says ends with it. Raises ``GatewayError``."""
        body: Json = {"model": self._model, "messages": list(messages)}
        if tools:
            body["tools"] = list(tools)
        headers = {"X-Session-Id": session, "X-Turn-Type": "main"} | ({"X-Agent-Id": agent} if agent else {})
        if is_last:
            headers["X-Session-Done"] = "true"
        answer, came = await self._post("/v1/chat/completions", body, headers)
        try:
            read = _Completion.model_validate(answer)
        except ValidationError as error:
            raise GatewayError(f"{self._url} answered in a form that is not known: {answer!r:.200}") from error
        return Answer(
            message=answer["choices"][0]["message"],
            text=read.choices[0].message.said,
            calls=tuple((call.id, call.function) for call in read.choices[0].message.tool_calls or ()),
            turn=came.get("X-MetaClaw-Turn", ""),
            tokens=read.usage.completion_tokens if read.usage else 0,
        )

    async def give_feedback(self, turn: str, score: float) -> None:
        """What a verifier found of ``turn``. Raises ``GatewayError``."""
        await self._post("/v1/feedback", {"turn": turn, "score": score, "source": "rollout"}, {})

    async def read_for_memories(self, session: str, *, agent: str, wait_s: float) -> bool:
        """Have a session read for memories now; whether it was within ``wait_s``. Raises ``GatewayError``."""
        body: Json = {"session_id": session, "wait_s": wait_s}
        answer, _ = await self._post("/v1/memory/ingest", body, {"X-Agent-Id": agent})
        return answer.get("is_done") is True

    async def _post(self, path: str, body: Json, headers: Mapping[str, str]) -> tuple[Json, Mapping[str, str]]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._session.post(
                    self._url + path,
                    data=json.dumps(body).encode(),
                    headers={
                        "Authorization": f"Bearer {self._token}",
                        "Content-Type": "application/json",
                        **headers,
                    },
                    timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
                ) as response:
                    raw = await response.read()
                    if response.status == 200:
                        return self._parsed(raw), response.headers
                    if response.status not in _TRY_AGAIN or attempt == _ATTEMPTS:
                        raise GatewayError(f"{self._url}{path} answered {response.status}: {_message(raw)}")
                    wait_s = _wait_s(response.headers, attempt)
            except (aiohttp.ClientConnectionError, TimeoutError) as error:
                why = str(error) or type(error).__name__
                raise GatewayError(f"no gateway at {self._url} ({why}): `metaclaw start` starts it") from error
            except aiohttp.ClientError as error:
                raise GatewayError(f"{self._url}{path}: {error}") from error
            await asyncio.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _parsed(self, raw: bytes) -> Json:
        try:
            answer: Any = json.loads(raw)
        except ValueError as error:
            raise GatewayError(f"{self._url} answered what is not JSON: {raw[:200]!r}") from error
        if not isinstance(answer, dict):
            raise GatewayError(f"{self._url} answered in a form that is not known: {raw[:200]!r}")
        return cast("Json", answer)


def _wait_s(headers: Mapping[str, str], attempt: int) -> float:
    try:
        return min(_LONGEST_WAIT_S, max(0.0, float(headers.get("Retry-After", ""))))
    except ValueError:
        return min(_LONGEST_WAIT_S, 0.5 * 2**attempt)


def _message(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return raw[:200].decode("utf-8", "replace")
