"""The losses of the Tinker API, token by token.

Owns the formulas, what each loss needs, and what is measured beside it; refuses to know models and batches.
Invariant: a loss is a plain sum over tokens, never divided by tokens, weights or datums, and it is minimised.

Shapes: N positions, K targets a position (1 but for cross-entropy). ``lp`` is the learner's log-prob with its
gradient, ``q`` the sampler's (``logprobs``), ``A`` ``advantages``, ``w`` ``weights``, ``r = exp(lp - q)``. A clipped
loss finds its bounds among the inputs too, one pair a token. ``docs/losses.md`` has the table for users.
"""

# pyright: basic

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metaclaw.errors import InvalidRequestError

LOW, HIGH = "clip_low_threshold", "clip_high_threshold"  # bounds of the ratio itself, not distances from 1
RATIO_MASK = "sequence_ratio_mask"

# exp(80) is about 5e34 in float32. A larger ratio is infinite, and the gradient of the branch that ``ppo`` does not
# take would be 0 * inf, which is NaN.
_MAX_LOG_RATIO = 80.0

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a loss needs beside log-probs. ``owner_N`` says which datum a position belongs to."""

    inputs: Mapping[str, Tensor]
    owner_N: Tensor
    settings: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One row of the table.

    ``counts``: the targets that have a loss and a gradient. ``reads``: those beyond them whose log-prob the loss reads.
    """

    per_token: Callable[[Tensor, Terms], Tensor]
    counts: Callable[[Mapping[str, Tensor]], Tensor]
    required: tuple[str, ...]
    reads: Callable[[Mapping[str, Tensor]], Tensor] | None = None
    clip: tuple[float, float] | None = None  # default bounds; ``None``: the loss is not clipped
    settings: Mapping[str, float] = field(default_factory=dict)  # its own, with their defaults
    many_targets: bool = False

    @property
    def optional(self) -> tuple[str, ...]:
        return () if self.clip is None else (LOW, HIGH)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSettings:
    """A loss with its configuration. Log-probs are those of ``logits / temperature``.

    ``all_logprobs``: the log-prob of every target goes back, not only of those that the loss needs.
    """

    name: str
    loss: Loss
    temperature: float
    all_logprobs: bool
    low: float
    high: float
    own: Mapping[str, float]


def _cross_entropy(lp: Tensor, terms: Terms) -> Tensor:
    return -lp * terms.inputs["weights"]


def _importance_sampling(lp: Tensor, terms: Terms) -> Tensor:
    return -torch.exp(lp - terms.inputs["logprobs"]) * terms.inputs["advantages"]


def _ppo(lp: Tensor, terms: Terms) -> Tensor:
    ratio = torch.exp((lp - terms.inputs["logprobs"]).clamp(max=_MAX_LOG_RATIO))
    return _pessimistic(ratio, terms)


def _cispo(lp: Tensor, terms: Terms) -> Tensor:
    # The clipped ratio is a constant. With its gradient, tokens below a probability of 0.37 would be pushed the
    # wrong way.
    ratio = torch.exp(lp.detach() - terms.inputs["logprobs"])
    return -_clip(ratio, terms) * lp * terms.inputs["advantages"]


def _dro(lp: Tensor, terms: Terms) -> Tensor:
    gap = lp - terms.inputs["logprobs"]
    return -(lp * terms.inputs["advantages"] - 0.5 * terms.settings["beta"] * gap.square())


def _gspo(lp: Tensor, terms: Terms) -> Tensor:
    """GSPO-token: each token has its sequence's ratio as the value, and its own log-prob's gradient."""
    held = lp.detach()
    marked = (terms.inputs[RATIO_MASK] != 0).to(lp.dtype)
    num_owners = int(terms.owner_N.max()) + 1
    sums = torch.zeros(2, num_owners, dtype=lp.dtype, device=lp.device)
    gap = torch.where(marked != 0, held - terms.inputs["logprobs"], 0.0)
    sums[0].index_add_(0, terms.owner_N, gap[:, 0])
    sums[1].index_add_(0, terms.owner_N, marked[:, 0])
    log_ratio = (sums[0] / sums[1].clamp(min=1))[terms.owner_N][:, None]
    return _pessimistic(torch.exp(log_ratio.clamp(max=_MAX_LOG_RATIO) + lp - held), terms)


def _pessimistic(ratio: Tensor, terms: Terms) -> Tensor:
    advantages = terms.inputs["advantages"]
    return -torch.minimum(ratio * advantages, _clip(ratio, terms) * advantages)


def _clip(ratio: Tensor, terms: Terms) -> Tensor:
    return torch.clamp(ratio, terms.inputs[LOW], terms.inputs[HIGH])


def _weighs(name: str) -> Callable[[Mapping[str, Tensor]], Tensor]:
    return lambda inputs: inputs[name] != 0


def _is_sampled(inputs: Mapping[str, Tensor]) -> Tensor:
    """Prompts carry zeros for both; the penalty would pull each of their tokens to a probability of 1."""
    return (inputs["advantages"] != 0) | (inputs["logprobs"] != 0)


# Where the defaults come from: docs/losses.md.
_POLICY_INPUTS = ("target_tokens", "logprobs", "advantages")
LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(
        per_token=_cross_entropy, counts=_weighs("weights"), required=("target_tokens", "weights"), many_targets=True
    ),
    "importance_sampling": Loss(
        per_token=_importance_sampling, counts=_weighs("advantages"), required=_POLICY_INPUTS
    ),
    "ppo": Loss(per_token=_ppo, counts=_weighs("advantages"), required=_POLICY_INPUTS, clip=(0.8, 1.2)),
    "cispo": Loss(per_token=_cispo, counts=_weighs("advantages"), required=_POLICY_INPUTS, clip=(0.0, 4.0)),
    "dro": Loss(per_token=_dro, counts=_is_sampled, required=_POLICY_INPUTS, settings={"beta": 0.05}),
    "gspo": Loss(
        per_token=_gspo, counts=_weighs("advantages"), required=(*_POLICY_INPUTS, RATIO_MASK),
        reads=_weighs(RATIO_MASK), clip=(1 - 3e-4, 1 + 4e-4),
    ),
}  # fmt: skip
# Names that clients know and this server does not compute, and what to do instead.
_INSTEAD = {
    "stable_reinforce": "its formula is not published; use 'cispo' or 'importance_sampling'",
    "custom": "use the SDK's forward_backward_custom, which computes the loss on the client",
    "grpo": "compute the group's advantages on the client and use 'ppo' or 'importance_sampling'",
}


def loss_settings(name: str, config: Mapping[str, float]) -> LossSettings:
    """Look up a loss and read its configuration; raises ``InvalidRequestError`` with what is known."""
    if name not in LOSSES:
        instead = f" ({_INSTEAD[name]})" if name in _INSTEAD else ""
        raise InvalidRequestError(f"unknown loss {name!r}{instead}; known are {', '.join(LOSSES)}", param="loss_fn")
    loss = LOSSES[name]
    known = ("temperature", "logprobs", *loss.optional, *loss.settings)
    for key, value in config.items():
        if key not in known:
            raise InvalidRequestError(
                f"loss {name!r} has no setting {key!r}; it knows {', '.join(known)}", param="loss_fn_config"
            )
        if isinstance(value, str) or not math.isfinite(value):
            raise InvalidRequestError(f"loss setting {key!r} must be a finite number, not {value!r}", param=key)
    default_low, default_high = loss.clip or (0.0, math.inf)
    settings = LossSettings(
        name=name, loss=loss, temperature=float(config.get("temperature", 1.0)),
        all_logprobs=config.get("logprobs", 1) != 0,
        low=float(config.get(LOW, default_low)), high=float(config.get(HIGH, default_high)),
        own={key: float(config.get(key, default)) for key, default in loss.settings.items()},
    )  # fmt: skip
    _check(settings, config)
    return settings


def _check(settings: LossSettings, config: Mapping[str, float]) -> None:
    if settings.temperature <= 0:
        raise InvalidRequestError(f"temperature must be above 0, not {settings.temperature!r}", param="temperature")
    if config.get("logprobs", 1) not in (0, 1):
        raise InvalidRequestError(
            f"logprobs must be 1 (every target) or 0 (those that the loss needs), not {config['logprobs']!r}",
            param="logprobs",
        )
    if not 0 <= settings.low <= settings.high:
        raise InvalidRequestError(
            f"the ratio's bounds must satisfy 0 <= {LOW} <= {HIGH}, not {settings.low!r} and {settings.high!r}",
            param=LOW,
        )
    if settings.own.get("beta", 0.0) < 0:
        raise InvalidRequestError(f"beta must be at least 0, not {settings.own['beta']!r}", param="beta")


@torch.no_grad()
def measure(settings: LossSettings, lp_NK: Tensor, loss_NK: Tensor, inputs: Mapping[str, Tensor]) -> Metrics:
    """Metrics of the targets that count. Only sums, minima and maxima: those merge truthfully over any split."""
    counts = settings.loss.counts(inputs)
    metrics = {"loss:sum": loss_NK.double().sum().item(), "tokens:sum": float(counts.sum())}
    if "logprobs" not in inputs or not counts.any():
        return metrics
    gap = (lp_NK - inputs["logprobs"])[counts].double()
    ratio = gap.exp()
    metrics |= {"ratio:sum": ratio.sum().item(), "ratio:min": ratio.min().item(), "ratio:max": ratio.max().item()}
    metrics["logprob_gap:sum"] = (
        gap.sum().item()
    )  # learner minus sampler; minus its mean estimates KL(sampler, learner)
    if settings.loss.clip is not None:
        outside = (ratio < inputs[LOW][counts]) | (ratio > inputs[HIGH][counts])
        metrics["outside_bounds:sum"] = float(outside.sum())
    return metrics


def merge(into: Metrics, more: Metrics) -> None:
    """Fold ``more`` into ``into`` as the suffix of each key says."""
    for key, value in more.items():
        fold = {"sum": lambda a, b: a + b, "min": min, "max": max}[key.rpartition(":")[2]]
        into[key] = fold(into[key], value) if key in into else value
