"""What changed, measured on the questions that were held out.

Owns the statistics; refuses to know how the policy was trained. Answers are scored three ways: by the reward that
was learned from, and by two figures that were not: the base model's negative log-likelihood (NLL) of the answer, and
its relevance, i.e. by how many nats per token the base model finds the answer likelier after its own question than
after another one.
Invariant: intervals are over questions, because answers to one question are not independent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo.conversation import Reply
from demo.verifier import is_on_topic, reward

os.environ.setdefault("TINKER_TELEMETRY", "0")  # before the SDK is imported: its events carry request headers
import tinker

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """The tokens of one answer as the gateway journalled them."""

    prompt_tokens: np.ndarray  # int32 (P,)
    tokens: np.ndarray  # int32 (T,)


@dataclass(frozen=True, slots=True)
class Scores:
    """One row per question, one column per answer to it."""

    reward: np.ndarray
    on_topic: np.ndarray
    nll: np.ndarray  # nats per token
    relevance: np.ndarray  # nats per token
    words: np.ndarray


@dataclass(frozen=True, slots=True)
class Change:
    before: float
    after: float
    low: float
    high: float

    @property
    def mean(self) -> float:
        return self.after - self.before


def base_model(url: str, key: str, name: str) -> tinker.SamplingClient:
    """The untrained model, for scoring. Blocks: call it from a thread."""
    logging.getLogger("tinker").setLevel(logging.ERROR)  # it warns at each long poll that goes around
    service = tinker.ServiceClient(base_url=url, api_key=f"tml-{key}")
    return service.create_sampling_client(base_model=name).result()


def score(
    replies: Sequence[Reply], recorded: Sequence[RecordedAnswer], sampler: tinker.SamplingClient, num_prompts: int
) -> Scores:
    """Score ``replies``, which hold the questions in order, over and over."""
    # The question half the list away is the "other" one: fixed, so that both evaluations compare alike.
    others = [recorded[(i + num_prompts // 2) % num_prompts].prompt_tokens for i in range(len(recorded))]
    own = [_submit(sampler, answer.prompt_tokens, answer.tokens) for answer in recorded]
    foreign = [_submit(sampler, other, answer.tokens) for other, answer in zip(others, recorded, strict=True)]
    nll = np.array([_nll(future.result(), answer.tokens) for future, answer in zip(own, recorded, strict=True)])
    nll_foreign = np.array(
        [_nll(future.result(), answer.tokens) for future, answer in zip(foreign, recorded, strict=True)]
    )

    def table(values: Sequence[float] | np.ndarray) -> np.ndarray:
        return np.asarray(values, dtype=float).reshape(-1, num_prompts).T

    return Scores(
        reward=table([reward(reply.prompt, reply.text) for reply in replies]),
        on_topic=table([is_on_topic(reply.prompt, reply.text) for reply in replies]),
        nll=table(nll),
        relevance=table(nll_foreign - nll),
        words=table([len(reply.text.split()) for reply in replies]),
    )


def paired_change(before: np.ndarray, after: np.ndarray, *, seed: int = 0) -> Change:
    """Difference of means with a 95 % bootstrap interval, resampling questions in pairs."""
    difference = after.mean(axis=1) - before.mean(axis=1)
    picks = np.random.default_rng(seed).integers(0, len(difference), size=(RESAMPLES, len(difference)))
    low, high = np.percentile(difference[picks].mean(axis=1), [2.5, 97.5])
    return Change(float(before.mean()), float(after.mean()), float(low), float(high))


def _submit(sampler: tinker.SamplingClient, prompt: np.ndarray, answer: np.ndarray):
    return sampler.compute_logprobs(tinker.ModelInput.from_ints([*prompt.tolist(), *answer.tolist()]))


def _nll(logprobs: Sequence[float | None], answer: np.ndarray) -> float:
    tail = [value for value in logprobs[-len(answer) :] if value is not None]
    return -float(np.mean(tail))
