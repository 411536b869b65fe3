"""From recorded tokens to what the trainer eats.

Owns the alignment of tokens, log-probabilities and advantages; refuses to know text, templates and rewards. Invariant:
every number about a token was recorded when that token was drawn; nothing is rendered, re-tokenised, cut or padded, and
each drawn token is trained on in exactly one place.

Shapes: ``T`` is the number of input tokens, one less than prompt and answer together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from metaclaw.config import UpdateSettings
from metaclaw.journal.turn_records import PolicySample

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

ROLLED_OUT = ""
TEMPERATURE = "temperature"  # in the configuration of a loss

_ITEM_BYTES = 4  # int32 and float32, as recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTurn:
    """One trainable turn and how much better than expected its exchange was.

    ``ROLLED_OUT`` is no turn, but an answer that this update drew from the version it starts from.
    """

    turn: str
    sample: PolicySample
    surprise: float

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.sample.prompt_tokens) // _ITEM_BYTES

    @property
    def num_tokens(self) -> int:
        """Of the answer."""
        return len(self.sample.tokens) // _ITEM_BYTES

    @property
    def all_tokens(self) -> list[int]:
        """Of prompt and answer."""
        return _ints(self.sample.prompt_tokens + self.sample.tokens).tolist()


def rolled_out(
    prompt: Sequence[int], tokens: Sequence[int], temperature: float, surprise: float, *, version: int
) -> TrainingTurn:
    """An answer that this update drew, as what is trained on. How likely its tokens were, the trainer is asked."""
    sample = PolicySample(
        agent="", version=version, model="", prompt_tokens=np.asarray(prompt, "<i4").tobytes(),
        tokens=np.asarray(tokens, "<i4").tobytes(), logprobs=np.zeros(len(tokens), "<f4").tobytes(), logprobs_full=b"",
        temperature=temperature, top_p=1.0, top_k=-1, seed=None, stop_reason="", spans=(), renderer="",
    )  # fmt: skip
    return TrainingTurn(turn=ROLLED_OUT, sample=sample, surprise=surprise)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where the tokens of one turn's answer are the targets of a sequence: from ``start`` up to ``stop``."""

    turn: str
    version: int
    start: int
    stop: int

    @property
    def num_tokens(self) -> int:
        return self.stop - self.start

    @property
    def is_rolled_out(self) -> bool:
        return self.turn == ROLLED_OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Likely:
    """``K`` tokens at each place, whatever was drawn there, and what their log-probabilities are multiplied by."""

    targets_TK: Ints
    weights_TK: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Datum:
    """One training sequence. Within its ``spans``, in order, the targets are tokens that the policy drew."""

    tokens_T: Ints
    targets_T: Ints
    logprobs_T: Floats
    advantages_T: Floats
    spans: tuple[Span, ...]
    likely: Likely | None = None  # what is learned beside it, of tokens that were not drawn too
    now_T: Floats | None = None  # what the trainer said of the targets before the step, once it was asked
    proximal_T: Floats | None = None  # what a loss's ratios start from, where that is not the sampler's for all of it

    @property
    def ratios_from_T(self) -> Floats:
        """The log-probabilities to which a loss compares the trainer's."""
        return self.logprobs_T if self.proximal_T is None else self.proximal_T

    def trained(self, values_T: Floats) -> Floats:
        """Those of ``values_T`` that belong to drawn tokens."""
        return np.concatenate([values_T[span.start : span.stop] for span in self.spans])


@dataclass(frozen=True, slots=True, kw_only=True)
class DatumGroup:
    """Sequences that share one call, because the loss's configuration holds for a whole call."""

    loss: str
    config: Mapping[str, float]
    data: tuple[Datum, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelyDatum:
    """One sequence of which more than what was drawn is learned."""

    tokens_T: Ints
    likely: Likely


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelyGroup:
    """Sequences whose loss is minus the weighted sum of their targets' log-probabilities, at temperature 1."""

    data: tuple[LikelyDatum, ...]
    loss: str = field(default="cross_entropy", init=False)
    config: Mapping[str, float] = field(default_factory=dict[str, float], init=False)


AnyGroup = DatumGroup | LikelyGroup


def likely_group(groups: Sequence[DatumGroup]) -> list[LikelyGroup]:
    """What is learned of ``groups`` beside what was drawn, as one group; none where there is nothing."""
    data = [
        LikelyDatum(tokens_T=datum.tokens_T, likely=datum.likely)
        for group in groups
        for datum in group.data
        if datum.likely is not None
    ]
    return [LikelyGroup(data=tuple(data))] if data else []


def build_groups(turns: Sequence[TrainingTurn], settings: UpdateSettings) -> tuple[DatumGroup, ...]:
    """Datums of all ``turns``, grouped by sampling temperature; advantages are divided by their trained tokens.

    The divisor is the number of trained tokens of all turns together, fixed here: the trainer sums, however the data is
    cut into calls, and no sequence is weighed by its own length.
    """
    weight = settings.reward_weight if "rewards" in settings.methods else 0.0
    num_trained = sum(turn.num_tokens for turn in turns)
    by_temperature: dict[float, list[TrainingTurn]] = defaultdict(list)
    for turn in turns:
        by_temperature[turn.sample.temperature].append(turn)
    return tuple(
        DatumGroup(
            loss=settings.loss,
            config=_loss_config(temperature, settings),
            data=tuple(_datum(chain, num_trained, weight) for chain in chains(alike)),
        )
        for temperature, alike in sorted(by_temperature.items())
    )


def chains(turns: Sequence[TrainingTurn]) -> list[list[TrainingTurn]]:
    """Turns that continue one another, each in one chain: a prompt begins with the prompt before it and its answer.

    The tokens as recorded decide, and nothing else: where a template dropped the thinking of an earlier answer, or the
    history was edited, a chain ends and another begins. Of several turns that continue the same one the first does.
    """
    found = list[list[TrainingTurn]]()
    ends = list[bytes]()  # all tokens of each chain
    for turn in sorted(turns, key=lambda turn: len(turn.sample.prompt_tokens)):
        prompt = turn.sample.prompt_tokens
        before = [index for index, end in enumerate(ends) if prompt.startswith(end)]
        if before:
            longest = max(before, key=lambda index: len(ends[index]))
            found[longest].append(turn)
            ends[longest] = prompt + turn.sample.tokens
        else:
            found.append([turn])
            ends.append(prompt + turn.sample.tokens)
    return found


def _datum(chain: Sequence[TrainingTurn], num_trained: int, weight: float) -> Datum:
    tokens = _ints(chain[-1].sample.prompt_tokens + chain[-1].sample.tokens)
    logprobs = np.zeros(tokens.size - 1, np.float32)
    advantages = np.zeros(tokens.size - 1, np.float32)
    spans = list[Span]()
    for turn in chain:
        start = turn.num_prompt_tokens - 1
        stop = start + turn.num_tokens
        logprobs[start:stop] = np.frombuffer(turn.sample.logprobs, "<f4")
        advantages[start:stop] = weight * turn.surprise / num_trained
        spans.append(Span(turn=turn.turn, version=turn.sample.version, start=start, stop=stop))
    return Datum(
        tokens_T=tokens[:-1],
        targets_T=tokens[1:],
        logprobs_T=logprobs,
        advantages_T=advantages,
        spans=tuple(spans),
    )


def _loss_config(temperature: float, settings: UpdateSettings) -> dict[str, float]:
    if settings.loss == "importance_sampling":
        return {TEMPERATURE: temperature}
    return {
        TEMPERATURE: temperature,
        "clip_low_threshold": settings.ratio_low,
        "clip_high_threshold": settings.ratio_high,
    }


def _ints(recorded: bytes) -> Ints:
    return np.frombuffer(recorded, "<i4").astype(np.int64)
