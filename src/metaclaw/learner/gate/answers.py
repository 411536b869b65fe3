"""Having versions answer, and reading answers as another version would.

Owns the requests to the training server's completion endpoint; refuses to know what is made of the answers. Invariant:
a prompt goes out as the tokens that were recorded, nothing is rendered again; log-probabilities are at temperature 1
over the whole vocabulary, whatever the answer was drawn at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from metaclaw.chat.think_filter import without_think_block
from metaclaw.errors import BackendError, UpstreamError
from metaclaw.upstreams.http_model import HttpModel

_DIALECT = "openai.completions"
_REFUSES_THIS_PROMPT = (400, 413, 422)

Tokens = Sequence[int]


class RefusedPromptError(BackendError):
    """This prompt cannot be answered, by any version: it is longer than the server reads now, for one."""

    code = "prompt_refused"
    retryable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """An answer. ``tokens`` are all that was drawn, the end token too; ``text`` is without thinking."""

    tokens: tuple[int, ...]
    text: str
    finish_reason: str | None


class Drawer(Protocol):
    """Versions that can be asked. ``weights`` is the path of sampler weights, ``None`` the base model."""

    async def draw(
        self, weights: str | None, prompt: Tokens, *, temperature: float, max_tokens: int, seed: int
    ) -> Drawn:
        """One answer. Raises ``BackendError``, ``RefusedPromptError`` where another prompt may do."""
        ...

    async def score(self, weights: str | None, prompt: Tokens, answer: Tokens) -> tuple[float, ...]:
        """The log-probability of each token of ``answer``. Raises ``BackendError``."""
        ...


class EndpointDrawer:
    """Versions on the training server."""

    def __init__(self, upstream: HttpModel) -> None:
        self._upstream = upstream
        self._base_model: str | None = None

    async def draw(
        self, weights: str | None, prompt: Tokens, *, temperature: float, max_tokens: int, seed: int
    ) -> Drawn:
        choice = await self._complete(
            weights, prompt, temperature=temperature, max_tokens=max_tokens, seed=seed, return_token_ids=True
        )
        return Drawn(
            tokens=tuple(choice["token_ids"]),
            text=_without_thinking(str(choice["text"])),
            finish_reason=choice.get("finish_reason"),
        )

    async def score(self, weights: str | None, prompt: Tokens, answer: Tokens) -> tuple[float, ...]:
        if not answer:
            return ()
        choice = await self._complete(weights, [*prompt, *answer], echo=True, max_tokens=0, prompt_logprobs=0)
        entries = choice["prompt_logprobs"][-len(answer) :]
        return tuple(
            math.nan if entry is None or entry[str(token)]["logprob"] is None else float(entry[str(token)]["logprob"])
            for token, entry in zip(answer, entries, strict=True)
        )

    async def _complete(self, weights: str | None, prompt: Tokens, **settings: object) -> dict[str, Any]:
        try:
            body = {"model": weights or await self._base_name(), "prompt": list(prompt), **settings}
            reply = await self._upstream.send(_DIALECT, json.dumps(body, separators=(",", ":")).encode())
            try:
                raw = await reply.read()
            finally:
                reply.close()
        except UpstreamError as error:
            failure = RefusedPromptError if error.status in _REFUSES_THIS_PROMPT else BackendError
            raise failure(f"examining a version: {error}") from error
        try:
            return json.loads(raw)["choices"][0]
        except (ValueError, LookupError, TypeError) as error:
            raise BackendError(
                f"examining a version: {self._upstream.name} answered in a form that is not known"
            ) from error

    async def _base_name(self) -> str:
        if self._base_model is None:
            names = [model.get("id") for model in await self._upstream.models()]
            if not names or not isinstance(names[0], str):
                raise UpstreamError(f"{self._upstream.name} lists no model", status=502)
            self._base_model = names[0]
        return self._base_model


def _without_thinking(text: str) -> str:
    message = {"role": "assistant", "content": text}
    answer: dict[str, Any] = without_think_block({"choices": [{"index": 0, "message": message}]})
    return str(answer["choices"][0]["message"].get("content") or "")
