"""Having versions answer, and reading answers as another version would.

Owns what the training server's completion endpoint is asked for; refuses to know what is made of the answers.
Invariant: a prompt goes out as the tokens that were recorded; log-probabilities are at temperature 1 over the whole
vocabulary, whatever the answer was drawn at.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.think_filter import without_think_block
from metaclaw.errors import BackendError
from metaclaw.learner.completions import Completions, Failures
from metaclaw.upstreams.http_model import HttpModel

Tokens = Sequence[int]


class RefusedPromptError(BackendError):
    """This prompt cannot be answered, by any version: it is longer than the server reads now, for one."""

    code = "prompt_refused"
    retryable: ClassVar[bool] = False


_FAILURES = Failures(doing="examining a version", failed=BackendError, refused=RefusedPromptError)


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
        self._completions = Completions(upstream, _FAILURES)

    async def draw(
        self, weights: str | None, prompt: Tokens, *, temperature: float, max_tokens: int, seed: int
    ) -> Drawn:
        choice = await self._choice(
            weights, prompt, temperature=temperature, max_tokens=max_tokens, seed=seed, return_token_ids=True
        )
        with self._in_known_form():
            return Drawn(
                tokens=tuple(choice["token_ids"]),
                text=_without_thinking(str(choice["text"])),
                finish_reason=choice.get("finish_reason"),
            )

    async def score(self, weights: str | None, prompt: Tokens, answer: Tokens) -> tuple[float, ...]:
        if not answer:
            return ()
        choice = await self._choice(weights, [*prompt, *answer], echo=True, max_tokens=0, prompt_logprobs=0)
        with self._in_known_form():
            entries = choice["prompt_logprobs"][-len(answer) :]
            return tuple(_logprob(entry, token) for token, entry in zip(answer, entries, strict=True))

    async def _choice(self, weights: str | None, prompt: Tokens, **asked: object) -> JsonObject:
        return (await self._completions.complete(weights, prompt, **asked)).choice

    @contextmanager
    def _in_known_form(self) -> Generator[None]:
        try:
            yield
        except (ValueError, LookupError, TypeError) as error:
            raise _FAILURES.because(f"{self._completions.name} answered in a form that is not known") from error


def _logprob(entry: Any, token: int) -> float:
    told = None if entry is None else entry[str(token)]["logprob"]
    return math.nan if told is None else float(told)


def _without_thinking(text: str) -> str:
    message = {"role": "assistant", "content": text}
    answer: dict[str, Any] = without_think_block({"choices": [{"index": 0, "message": message}]})
    return str(answer["choices"][0]["message"].get("content") or "")
