"""vLLM's HTTP interface, as far as we use it: tokens in, tokens and log-probs out, adapters in and out.

Owns paths, bodies and their decoding; refuses to know commands, samples and processes. Invariant: every failure of
vLLM is an error of ours, and closing a stream early ends the generation in vLLM.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import numpy as np
from pydantic_core import from_json

from metaclaw.errors import CheckpointError, EngineError
from metaclaw.training.commands import Array

_NOT_A_NUMBER = -9999.0  # what vLLM sends for log-probs that are NaN or minus infinity
_UNREADABLE = (aiohttp.ClientError, OSError, ValueError, LookupError, TypeError)  # what broke off, or has another form
_HEALTH_S = 20.0
_LOAD_S = 300.0

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The next tokens of one answer. ``topk`` arrays are (n, k), best first, or ``None``."""

    tokens: Array
    logprobs: Array
    topk_tokens: Array | None
    topk_logprobs: Array | None
    finish_reason: Literal["stop", "length"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Log-probs (T,) of a sequence's own tokens at temperature 1, NaN first; the likeliest (T, k) at each place."""

    logprobs: Array
    topk_tokens: Array
    topk_logprobs: Array


class VllmClient:
    """Speaks to one vLLM."""

    def __init__(self, session: aiohttp.ClientSession, url: str, api_key: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"}

    async def is_healthy(self) -> bool:
        """Whether it says that it can serve, in good time."""
        try:
            timeout = aiohttp.ClientTimeout(total=_HEALTH_S)
            async with self._session.get(f"{self._url}/health", timeout=timeout) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def load_adapter(self, name: str, directory: str) -> None:
        """Raises ``CheckpointError`` with vLLM's reason when it does not take the adapter."""
        body = {"lora_name": name, "lora_path": directory}
        status, text = await self._post("/v1/load_lora_adapter", body, timeout_s=_LOAD_S)
        if status >= 500:
            raise EngineError(f"vLLM could not load the adapter: {text}")
        if status != 200:
            raise CheckpointError(f"vLLM does not take the adapter: {text}")

    async def unload_adapter(self, name: str) -> None:
        status, text = await self._post("/v1/unload_lora_adapter", {"lora_name": name}, timeout_s=_LOAD_S)
        if status != 200:
            raise EngineError(f"vLLM could not unload an adapter: {text}")

    async def stream(self, model: str, tokens: list[int], params: Mapping[str, Any]) -> AsyncGenerator[Chunk]:
        """Continue ``tokens`` once. ``params`` are vLLM's sampling parameters."""
        sampling = {"detokenize": False, **params}
        body = {"model": model, "token_ids": tokens, "stream": True, "sampling_params": sampling}
        num_likeliest = int(params.get("logprobs", 0))
        try:
            async with self._open("/inference/v1/generate", body) as answer:
                async for line in answer.content:
                    data = line.removeprefix(b"data: ").strip()
                    if not data or data == b"[DONE]":
                        continue
                    yield _chunk(from_json(data), num_likeliest)
        except _UNREADABLE as error:
            raise EngineError(f"vLLM broke off an answer: {type(error).__name__}: {error}") from error

    async def score(self, model: str, tokens: list[int], *, topk: int = 0) -> Scores:
        """Score ``tokens`` in one forward pass. vLLM reads no cached prefix for it."""
        sampling = {"detokenize": False, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": topk}
        body = {"model": model, "token_ids": tokens, "sampling_params": sampling}
        try:
            async with self._open("/inference/v1/generate", body) as answer:
                return _scores(tokens, from_json(await answer.read())["prompt_logprobs"], topk)
        except _UNREADABLE as error:
            raise EngineError(f"vLLM could not score a sequence: {type(error).__name__}: {error}") from error

    def _open(self, path: str, body: Body) -> _Checked:
        return _Checked(self._session.post(f"{self._url}{path}", data=_packed(body), headers=self._json_headers))

    async def _post(self, path: str, body: Body, *, timeout_s: float) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.post(
                f"{self._url}{path}", data=_packed(body), headers=self._json_headers, timeout=timeout
            ) as answer:
                return answer.status, _message(await answer.text())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineError(f"vLLM did not answer: {type(error).__name__}: {error}") from error

    @property
    def _json_headers(self) -> dict[str, str]:
        return {**self._headers, "Content-Type": "application/json"}


class _Checked:
    """An HTTP exchange whose status other than 200 is an ``EngineError``: what we send was checked before."""

    def __init__(self, request: Any) -> None:
        self._request = request

    async def __aenter__(self) -> aiohttp.ClientResponse:
        answer: aiohttp.ClientResponse = await self._request.__aenter__()
        if answer.status != 200:
            text = _message(await answer.text())
            await self._request.__aexit__(None, None, None)
            raise EngineError(f"vLLM refused a request: {text}")
        return answer

    async def __aexit__(self, *exception: Any) -> None:
        await self._request.__aexit__(*exception)


def _packed(body: Body) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _message(text: str) -> str:
    """The message of an error body, else its beginning."""
    try:
        return str(from_json(text)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return text[:500]


def _chunk(body: Body, num_likeliest: int) -> Chunk:
    if "error" in body:
        raise EngineError(f"vLLM failed: {str(body['error'].get('message', body['error']))[:500]}")
    choice: Body = body["choices"][0]
    reason = choice["finish_reason"]
    if reason not in (None, "stop", "length"):
        raise EngineError(f"vLLM ended an answer with {reason!r}")
    entries: list[Body] = choice["logprobs"]["content"] if choice["logprobs"] else []
    if len(entries) != len(choice["token_ids"]):
        raise ValueError(f"{len(entries)} log-probabilities came with {len(choice['token_ids'])} tokens")
    logprobs = np.array([entry["logprob"] for entry in entries], dtype=np.float32)
    if not (logprobs > _NOT_A_NUMBER).all():  # nor is what compares with nothing
        raise EngineError("the model's output holds no usable numbers (NaN or infinite); are the weights damaged?")
    likeliest = [_likeliest(entry["top_logprobs"], num_likeliest - 1) for entry in entries]
    has_topk = num_likeliest > 1
    return Chunk(
        tokens=np.array(choice["token_ids"], dtype=np.int32),
        logprobs=logprobs,
        topk_tokens=np.array([[token for token, _ in row] for row in likeliest], np.int32) if has_topk else None,
        topk_logprobs=np.array([[value for _, value in row] for row in likeliest], np.float32) if has_topk else None,
        finish_reason=reason,
    )


def _likeliest(entries: list[Body], k: int) -> list[tuple[int, float]]:
    """The best ``k`` of entries among which is the sampled token, wherever it ranks."""
    pairs = [(int(entry["token_id"]), float(entry["logprob"])) for entry in entries]
    return sorted(pairs, key=lambda pair: -pair[1])[: max(k, 0)]


def _scores(tokens: list[int], rows: list[dict[str, Any] | None], topk: int) -> Scores:
    scores = Scores(
        logprobs=np.full(len(tokens), np.nan, np.float32),
        topk_tokens=np.zeros((len(tokens), topk), np.int32),
        topk_logprobs=np.full((len(tokens), topk), np.nan, np.float32),
    )
    if len(rows) != len(tokens):
        raise ValueError(f"{len(rows)} places were scored of {len(tokens)}")
    for place, row in enumerate(rows):
        if row is None:
            if place:
                raise ValueError(f"nothing is said of token {place}")
            continue
        scores.logprobs[place] = row[str(tokens[place])]["logprob"]
        if topk:
            pairs = [{"token_id": token, "logprob": entry["logprob"]} for token, entry in row.items()]
            best = _likeliest(pairs, topk)
            scores.topk_tokens[place] = [token for token, _ in best]
            scores.topk_logprobs[place] = [value for _, value in best]
    if not (scores.logprobs[1:] > _NOT_A_NUMBER).all():
        raise EngineError("the model's output holds no usable numbers (NaN or infinite); are the weights damaged?")
    return scores
