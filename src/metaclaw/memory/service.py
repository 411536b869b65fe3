"""A memory that another process keeps, asked over the routes of ``/v1/memory``.

Owns the requests and the reading of the answers; refuses to know what recall makes of them. Invariants: whose units may
be found is said by whoever asks and never widened here; and what cannot be had raises, it is never an empty answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, ValidationError

from metaclaw.errors import UpstreamError
from metaclaw.memory.query import Found, MemoryQuery
from metaclaw.memory.units import MemoryUnit

_MAX_ANSWER = 64 << 20

M = TypeVar("M", bound=BaseModel)


class _FoundUnit(BaseModel):
    unit: MemoryUnit
    score: float
    parts: dict[str, float]


class _Results(BaseModel):
    results: list[_FoundUnit]


class _Ids(BaseModel):
    ids: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAnswer:
    """An answer as it came."""

    status: int
    body: bytes


class MemoryService:
    """The process at ``url``. Every method raises ``UpstreamError`` when it does not answer as it should."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str, *, timeout_s: float) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout_s = timeout_s

    async def search(self, query: MemoryQuery) -> list[Found]:
        """What fits a question, as the store of that process finds it."""
        owners = {"user": query.user, "workspace": query.workspace, "session": query.session}
        params = {
            "q": query.text,
            "limit": str(query.limit),
            "min_score": repr(query.min_score),
            "min_trust": repr(query.min_trust),
            **({"standing": str(query.num_standing)} if query.num_standing else {}),
            **{name: owner for name, owner in owners.items() if owner},
        }
        answer = await self._asked("GET", f"{_of(query.agent)}/search", params=params)
        results = _read(_Results, answer).results
        return [Found(unit=one.unit, score=one.score, parts=one.parts) for one in results]

    async def served(self, ids: Collection[str], *, min_trust: float) -> frozenset[str]:
        """Those of ``ids`` that are there and trusted so far."""
        body = json.dumps({"ids": sorted(ids), "min_trust": min_trust}).encode()
        answer = await self._asked("POST", "/v1/memory/served", body=body)
        return frozenset(_read(_Ids, answer).ids)

    async def forgotten(self) -> frozenset[str]:
        """The ids of all that was forgotten there."""
        return frozenset(_read(_Ids, await self._asked("GET", "/v1/memory/forgotten")).ids)

    async def passed_on(
        self,
        method: str,
        path: str,
        *,
        agent: str,
        query: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float | None = None,
    ) -> ServiceAnswer:
        """The answer to somebody else's request for ``agent``; ``path`` is what follows ``/v1/memory``."""
        path = f"{_of(agent)}{quote(path)}" + (f"?{query}" if query else "")
        return await self._sent(method, path, body=body, headers=headers, timeout_s=timeout_s)

    async def _asked(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes = b""
    ) -> ServiceAnswer:
        answer = await self._sent(method, path, params=params, body=body)
        if answer.status != 200:
            raise UpstreamError(f"{self._name} answered {answer.status} to {method} {path}", status=answer.status)
        return answer

    async def _sent(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> ServiceAnswer:
        try:
            async with (
                asyncio.timeout(timeout_s or self._timeout_s),
                self._session.request(
                    method,
                    self._url + path,
                    params=params,
                    data=body or None,
                    headers={**(headers or {}), **self._headers},
                    allow_redirects=False,
                ) as answer,
            ):
                content = await answer.content.read(_MAX_ANSWER)
                while not answer.content.at_eof() and len(content) < _MAX_ANSWER:
                    content += await answer.content.read(_MAX_ANSWER - len(content))
                if answer.status == 401:  # that is no word to whoever asked us: their token was right
                    raise UpstreamError(f"{self._name} does not know the token memory.sidecar_api_key", status=503)
                return ServiceAnswer(status=answer.status, body=content)
        except TimeoutError as error:
            raise UpstreamError(f"{self._name} did not answer in time", status=503) from error
        except aiohttp.ClientError as error:
            raise UpstreamError(
                f"{self._name} cannot be asked: {error}; `metaclaw memory serve` runs one", status=503
            ) from error

    @property
    def _name(self) -> str:
        return f"the memory at {self._url} (memory.sidecar_url)"


def _of(agent: str) -> str:
    return f"/agents/{quote(agent, safe='')}/v1/memory"


def _read(shape: type[M], answer: ServiceAnswer) -> M:
    try:
        return shape.model_validate_json(answer.body)
    except ValidationError as error:
        raise UpstreamError(f"the memory at memory.sidecar_url gave an answer that is none: {error}") from error
