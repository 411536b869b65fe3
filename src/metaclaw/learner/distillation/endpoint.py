"""How likely given tokens are to a model behind an OpenAI-compatible endpoint.

Owns the two ways to ask for it (vLLM's ``prompt_logprobs``, and OpenAI's ``echo`` with ``logprobs``); refuses to know
what is made of the answer. Invariant: an answer about other tokens, or about fewer, is an error and never a guess.
Log-probabilities are at temperature 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np

from metaclaw.chat.messages import object_or_none
from metaclaw.chat.usage import TokenCounts, token_counts
from metaclaw.errors import BackendError
from metaclaw.learner.completions import Completion, Completions, Failures
from metaclaw.learner.datums import Floats
from metaclaw.learner.distillation.lessons import Likeliest
from metaclaw.upstreams.http_model import HttpModel

Dialect = Literal["prompt_logprobs", "echo"]
Json = dict[str, Any]


class TeacherError(BackendError):
    """A teacher cannot be asked now: what was to be learned with it waits."""

    code = "teacher_failed"


class TeachingBudgetError(TeacherError):
    """The day's tokens or money for teachers are used up."""

    code = "teacher_budget"

    def __init__(self, reached: str) -> None:
        super().__init__(f"{reached}: what is to be taught waits until there is some left")


class RefusedTokensError(TeacherError):
    """The teacher does not take these tokens; it may take others. They may be more than it reads, for one."""

    code = "teacher_refused"
    retryable: ClassVar[bool] = False


_FAILURES = Failures(doing="asking the teacher", failed=TeacherError, refused=RefusedTokensError)


class _UnknownFormError(ValueError):
    """The answer does not hold what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """``logprobs`` of the tokens from ``first`` on, their texts by id as far as told, what is likeliest in their places
    where that was asked for and is told, and what it took.

    What a server does not say that it took is what was sent, which ``is_estimate``."""

    logprobs: Floats
    names: Mapping[int, str]
    took: TokenCounts
    is_estimate: bool = False
    likeliest: Likeliest | None = None


class ScoringEndpoint:
    """One endpoint. ``dialects`` are tried in order until one is understood, which is then kept to."""

    def __init__(self, upstream: HttpModel, dialects: Sequence[Dialect] = ("prompt_logprobs",)) -> None:
        self._completions = Completions(upstream, _FAILURES)
        self._dialects = tuple(dialects)

    @property
    def name(self) -> str:
        return self._completions.name

    async def base_name(self) -> str:
        """The first model that it lists. Raises ``TeacherError``."""
        return await self._completions.base_name()

    async def score(self, model: str | None, tokens: Sequence[int], *, first: int, top: int = 0) -> Scored:
        """How likely each of ``tokens`` from ``first`` on is to ``model`` after those before it, and which ``top``
        are the likeliest there (told in vLLM's form alone).

        ``None`` is the first model that the endpoint lists. Raises ``RefusedTokensError`` for tokens that it does not
        take, ``TeacherError`` when it cannot be asked, or does not tell.
        """
        if not 1 <= first < len(tokens):
            raise ValueError(f"first is {first} of {len(tokens)} tokens")
        known, why = len(self._dialects) == 1, ""
        refused = None
        for dialect in self._dialects:
            try:
                answer = await self._asked(model, tokens, dialect, top)
                scored = _READING[dialect](answer, tokens, first)
            except RefusedTokensError as error:
                if known:
                    raise
                refused = error
            except _UnknownFormError as error:
                why = str(error)
            else:
                self._dialects = (dialect,)
                return scored
        if refused is not None:
            raise refused
        raise TeacherError(
            f"{self.name} does not tell how likely the tokens of a prompt are ({why}): a teacher needs vLLM's"
            " `prompt_logprobs`, or `echo` with `logprobs`, on /v1/completions with a prompt of token ids"
        )

    async def _asked(self, model: str | None, tokens: Sequence[int], dialect: Dialect, top: int) -> Completion:
        # Some take 0 of OpenAI's for "none".
        told = {"prompt_logprobs": top} if dialect == "prompt_logprobs" else {"echo": True, "logprobs": 1}
        # One token is drawn and thrown away: not every server takes 0.
        return await self._completions.complete(model, tokens, max_tokens=1, temperature=1.0, **told)


def _by_id(told: Completion, tokens: Sequence[int], first: int) -> Scored:
    """vLLM's: an object a token, by its id."""
    listed: object = told.choice.get("prompt_logprobs")
    entries = cast("list[Any]", listed) if isinstance(listed, list) else []
    if len(entries) != len(tokens):
        raise _UnknownFormError(f"there is no prompt_logprobs of {len(tokens)} tokens in the answer")
    logprobs, names = np.full(len(tokens) - first, math.nan, np.float32), dict[int, str]()
    places: list[Mapping[int, float]] = [{} for _ in tokens[first:]]
    for place, token in enumerate(tokens[first:]):
        if (entry := entries[first + place]) is None:
            continue
        try:
            one: Json = entry[str(token)]
            logprobs[place] = math.nan if one["logprob"] is None else one["logprob"]
            places[place] = {
                int(key): float(each["logprob"]) for key, each in entry.items() if each["logprob"] is not None
            }
        except (LookupError, TypeError, ValueError) as error:
            raise _UnknownFormError(f"prompt_logprobs says nothing of token {token}") from error
        if isinstance(name := one.get("decoded_token"), str):
            names[token] = name
    return _scored(told.answer, logprobs, names, tokens, _likeliest(places))


def _likeliest(places: Sequence[Mapping[int, float]]) -> Likeliest | None:
    width = max(map(len, places))
    if width < 2:
        return None
    found = np.zeros((len(places), width), np.int64), np.full((len(places), width), -math.inf, np.float32)
    for place, told in enumerate(places):
        found[0][place, : len(told)], found[1][place, : len(told)] = list(told), list(told.values())
    return Likeliest(tokens_NK=found[0], logprobs_NK=found[1])


def _echoed(told: Completion, tokens: Sequence[int], first: int) -> Scored:
    """OpenAI's: texts and log-probabilities of the prompt's tokens, and of one more that was drawn."""
    echoed: Any = told.choice.get("logprobs")
    try:
        texts, logprobs = list(echoed["tokens"]), list(echoed["token_logprobs"])
    except (LookupError, TypeError) as error:
        raise _UnknownFormError("there are no logprobs of the echoed prompt in the answer") from error
    if not len(tokens) <= len(texts) <= len(tokens) + 1 or len(texts) != len(logprobs):
        raise _UnknownFormError(f"{len(texts)} tokens came back for the {len(tokens)} that were sent")
    try:
        values = np.asarray([math.nan if one is None else one for one in logprobs[first : len(tokens)]], np.float32)
    except (TypeError, ValueError) as error:
        raise _UnknownFormError("a log-probability is not a number") from error
    names = {token: text for token, text in zip(tokens[first:], texts[first:], strict=False) if isinstance(text, str)}
    return _scored(told.answer, values, names, tokens)


_READING: Mapping[Dialect, Callable[[Completion, Sequence[int], int], Scored]] = {
    "prompt_logprobs": _by_id,
    "echo": _echoed,
}


def _scored(
    answer: Json,
    logprobs: Floats,
    names: Mapping[int, str],
    tokens: Sequence[int],
    likeliest: Likeliest | None = None,
) -> Scored:
    counts = token_counts(object_or_none(answer.get("usage")))
    took = counts or TokenCounts(prompt=len(tokens), completion=1)
    return Scored(logprobs=logprobs, names=names, took=took, is_estimate=counts is None, likeliest=likeliest)
