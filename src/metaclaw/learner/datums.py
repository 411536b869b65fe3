"""From recorded tokens to what the trainer eats.

Owns the alignment of tokens, log-probabilities and advantages; refuses to know text, templates and rewards. Invariant:
every number about a token was recorded when that token was drawn; nothing is rendered, re-tokenised, cut or padded.

Shapes: ``T`` is the number of input tokens, one less than prompt and answer together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metaclaw.config import UpdateSettings
from metaclaw.journal.turn_records import PolicySample

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTurn:
    """One trainable turn and how much better than expected its exchange was."""

    turn: str
    sample: PolicySample
    surprise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Datum:
    """One training sequence. From position ``start`` on, the targets are tokens that the policy drew."""

    tokens_T: Ints
    targets_T: Ints
    logprobs_T: Floats
    advantages_T: Floats
    start: int
    version: int
    turns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatumGroup:
    """Sequences that share one call, because the loss's configuration holds for a whole call."""

    loss: str
    config: Mapping[str, float]
    data: tuple[Datum, ...]


def build_groups(turns: Sequence[TrainingTurn], settings: UpdateSettings) -> tuple[DatumGroup, ...]:
    """Datums of all ``turns``, grouped by sampling temperature; advantages are divided by their trained tokens.

    The divisor is the number of trained tokens of all turns together, fixed here: the trainer sums, however the data is
    cut into calls, and no sequence is weighed by its own length.
    """
    num_trained = sum(_ints(turn.sample.tokens).size for turn in turns)
    by_temperature: dict[float, list[Datum]] = defaultdict(list)
    for turn in turns:
        # Turns that share a token prefix could become one sequence here, between the turns and their datums.
        by_temperature[turn.sample.temperature].append(_datum(turn, num_trained))
    return tuple(
        DatumGroup(loss=settings.loss, config=_loss_config(temperature, settings), data=tuple(data))
        for temperature, data in sorted(by_temperature.items())
    )


def _datum(turn: TrainingTurn, num_trained: int) -> Datum:
    prompt, answer = _ints(turn.sample.prompt_tokens), _ints(turn.sample.tokens)
    tokens = np.concatenate([prompt, answer])
    start = prompt.size - 1
    logprobs = np.zeros(tokens.size - 1, np.float32)
    logprobs[start:] = np.frombuffer(turn.sample.logprobs, "<f4")
    advantages = np.zeros(tokens.size - 1, np.float32)
    advantages[start:] = turn.surprise / num_trained
    return Datum(
        tokens_T=tokens[:-1],
        targets_T=tokens[1:],
        logprobs_T=logprobs,
        advantages_T=advantages,
        start=start,
        version=turn.sample.version,
        turns=(turn.turn,),
    )


def _loss_config(temperature: float, settings: UpdateSettings) -> dict[str, float]:
    if settings.loss == "importance_sampling":
        return {"temperature": temperature}
    return {
        "temperature": temperature,
        "clip_low_threshold": settings.ratio_low,
        "clip_high_threshold": settings.ratio_high,
    }


def _ints(recorded: bytes) -> Ints:
    return np.frombuffer(recorded, "<i4").astype(np.int64)
