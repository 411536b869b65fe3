"""The losses of the Tinker API, token by token.

Owns the formulas, what each loss needs, and what is measured beside it; refuses to know models and batches.
Invariant: a loss is a plain sum over tokens, never divided by tokens, weights or datums, and it is minimised.

Shapes: N positions, K targets a position (1 but for cross-entropy). ``lp`` is the learner's log-prob with its
gradient, ``q`` the sampler's (``logprobs``), ``A`` ``advantages``, ``w`` ``weights``, ``r = exp(lp - q)``. A clipped
loss finds its bounds among the inputs too, one pair a token.
"""

# pyright: basic

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metaclaw.errors import InvalidRequestError

LOW, HIGH = "clip_low_threshold", "clip_high_threshold"  # bounds of the ratio itself, not distances from 1

# exp(80) is about 5e34 in float32. A larger ratio is infinite, and the gradient of the branch that ``ppo`` does not
# take would be 0 * inf, which is NaN.
_MAX_LOG_RATIO = 80.0

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One row of the table. ``gate`` names the input whose zeros have neither a loss nor a gradient."""

    per_token: Callable[[Tensor, Mapping[str, Tensor]], Tensor]
    gate: str
    required: tuple[str, ...]
    clip: tuple[float, float] | None = None  # default bounds; ``None``: the loss is not clipped
    many_targets: bool = False

    @property
    def optional(self) -> tuple[str, ...]:
        return () if self.clip is None else (LOW, HIGH)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSettings:
    """A loss with its configuration. Log-probs are those of ``logits / temperature``."""

    name: str
    loss: Loss
    temperature: float
    low: float
    high: float


def _cross_entropy(lp: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    return -lp * inputs["weights"]


def _importance_sampling(lp: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    return -torch.exp(lp - inputs["logprobs"]) * inputs["advantages"]


def _ppo(lp: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    ratio = torch.exp((lp - inputs["logprobs"]).clamp(max=_MAX_LOG_RATIO))
    advantages = inputs["advantages"]
    return -torch.minimum(ratio * advantages, _clip(ratio, inputs) * advantages)


def _cispo(lp: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    # The clipped ratio is a constant. With its gradient, tokens below a probability of 0.37 would be pushed the
    # wrong way.
    ratio = torch.exp(lp.detach() - inputs["logprobs"])
    return -_clip(ratio, inputs) * lp * inputs["advantages"]


def _clip(ratio: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    return torch.clamp(ratio, inputs[LOW], inputs[HIGH])


# Default bounds as in the Tinker cookbook, tutorials/202_loss_functions.py (August 2026): ppo 0.8 and 1.2, cispo one
# sided, 0 and 4.
_POLICY_INPUTS = ("target_tokens", "logprobs", "advantages")
LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(
        per_token=_cross_entropy, gate="weights", required=("target_tokens", "weights"), many_targets=True
    ),
    "importance_sampling": Loss(per_token=_importance_sampling, gate="advantages", required=_POLICY_INPUTS),
    "ppo": Loss(per_token=_ppo, gate="advantages", required=_POLICY_INPUTS, clip=(0.8, 1.2)),
    "cispo": Loss(per_token=_cispo, gate="advantages", required=_POLICY_INPUTS, clip=(0.0, 4.0)),
}


def loss_settings(name: str, config: Mapping[str, float]) -> LossSettings:
    """Look up a loss and read its configuration; raises ``InvalidRequestError`` with what is known."""
    if name not in LOSSES:
        raise InvalidRequestError(f"unknown loss {name!r}; known are {', '.join(LOSSES)}", param="loss_fn")
    loss = LOSSES[name]
    known = ("temperature", *loss.optional)
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
        low=float(config.get(LOW, default_low)), high=float(config.get(HIGH, default_high)),
    )  # fmt: skip
    _check(settings)
    return settings


def _check(settings: LossSettings) -> None:
    if settings.temperature <= 0:
        raise InvalidRequestError(f"temperature must be above 0, not {settings.temperature!r}", param="temperature")
    if not 0 <= settings.low <= settings.high:
        raise InvalidRequestError(
            f"the ratio's bounds must satisfy 0 <= {LOW} <= {HIGH}, not {settings.low!r} and {settings.high!r}",
            param=LOW,
        )


@torch.no_grad()
def measure(settings: LossSettings, lp_NK: Tensor, loss_NK: Tensor, inputs: Mapping[str, Tensor]) -> Metrics:
    """Metrics of the targets that count. Only sums, minima and maxima: those merge truthfully over any split."""
    counts = inputs[settings.loss.gate] != 0
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
