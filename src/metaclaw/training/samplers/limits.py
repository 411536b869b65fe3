"""What a ``Generate`` command may ask for, the same with every sampler.

Owns the limits, their messages and the seeds of several samples; refuses to know how tokens are made, and torch.
Invariant: a command that passes can be run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metaclaw.errors import InvalidRequestError, RequestTooLargeError
from metaclaw.training.commands import Array, Generate

_MAX_SAMPLES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the loaded model can take."""

    vocab_size: int
    max_context: int
    end_tokens: tuple[int, ...]


def check_command(command: Generate, limits: Limits) -> Array:
    """The prompt of ``command`` as int64; raises ``InvalidRequestError`` naming the parameter."""
    _check_sampling(command)
    _check_topk(command, limits.vocab_size)
    return _check_prompt(command.prompt, limits)


def sample_seed(seed: int, index: int) -> int:
    """The seed of sample ``index``. Hashed, so that sample 1 of seed 5 is not sample 0 of seed 6."""
    return int(np.random.SeedSequence((seed % 2**64, index)).generate_state(1, np.uint64)[0])


def _check_prompt(prompt: Array, limits: Limits) -> Array:
    if prompt.ndim != 1 or prompt.size == 0:
        raise InvalidRequestError("the prompt is empty; send at least one token", param="prompt")
    if len(prompt) > limits.max_context:
        raise RequestTooLargeError(
            f"the prompt has {len(prompt)} tokens; this model takes at most {limits.max_context}", param="prompt"
        )
    lowest, highest = int(prompt.min()), int(prompt.max())
    if lowest < 0 or highest >= limits.vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise InvalidRequestError(
            f"token {wrong} of the prompt is outside the vocabulary (0 to {limits.vocab_size - 1})", param="prompt"
        )
    return prompt.astype(np.int64)


def _check_sampling(command: Generate) -> None:
    if not 1 <= command.num_samples <= _MAX_SAMPLES:
        raise InvalidRequestError(
            f"num_samples {command.num_samples} is not within 1 and {_MAX_SAMPLES}", param="num_samples"
        )
    if command.max_tokens < 0:
        raise InvalidRequestError(f"max_tokens {command.max_tokens} is negative", param="max_tokens")
    if not (math.isfinite(command.temperature) and command.temperature >= 0):
        raise InvalidRequestError(
            f"temperature {command.temperature} is not a number of at least 0", param="temperature"
        )
    if not 0 < command.top_p <= 1:
        raise InvalidRequestError(f"top_p {command.top_p} is not above 0 and at most 1", param="top_p")
    if command.top_k < -1:
        raise InvalidRequestError(f"top_k {command.top_k} is neither -1 (off) nor a count", param="top_k")
    if not all(command.stop_strings):
        raise InvalidRequestError("an empty stop string would end every answer at once", param="stop")


def _check_topk(command: Generate, vocab_size: int) -> None:
    asked: Sequence[tuple[str, int]] = (
        ("topk_prompt_logprobs", command.topk_prompt_logprobs),
        ("topk_sample_logprobs", command.topk_sample_logprobs),
    )
    for name, count in asked:
        if not 0 <= count <= vocab_size:
            raise InvalidRequestError(f"{name} {count} is not within 0 and the vocabulary's {vocab_size}", param=name)
