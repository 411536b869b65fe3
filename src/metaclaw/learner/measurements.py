"""What an update did to the policy, in numbers.

Owns the estimates over an update's trained tokens; refuses to judge them (``metaclaw.learner.gate``). Invariant: two
sets of log-probabilities are only ever compared at the same temperature; the divergence is between two versions of one
trainer, and the gap between sampler and trainer is taken at one version, so that neither hides in the other.
``docs/updates.md`` has the table for users.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from metaclaw.learner.datums import Datum, Floats

Doubles = npt.NDArray[np.float64]


def measure(
    data: Sequence[Datum], before: Sequence[Floats], after: Sequence[Floats], *, parent: int
) -> dict[str, float]:
    """Numbers per trained token from the trainer's log-probabilities before and after the step.

    ``kl`` estimates KL(before -> after) by ``exp(d) - 1 - d`` with ``d`` the change of a token's log-probability:
    never negative, and of low variance (Schulman's k3); ``kl_k1`` is the plain mean of ``-d``, unbiased and noisy.
    ``entropy_before`` and ``entropy_after`` are of the two policies, by importance weights, ``entropy`` of what was
    drawn.
    ``ratio_*`` compare the trainer before the step with what was sampled; ``sampler_*`` do so for turns of version
    ``parent`` alone and are absent when there are none.
    """
    before_N, after_N = trained(data, before), trained(data, after)
    sampled_N = trained(data, [datum.logprobs_T for datum in data])
    version_N = np.concatenate([np.full(span.num_tokens, span.version) for datum in data for span in datum.spans])
    rolled_N = np.concatenate([np.full(span.num_tokens, span.is_rolled_out) for datum in data for span in datum.spans])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what overflows is found not finite
        change_N = after_N - before_N
        ratio_N = np.exp(before_N - sampled_N)
        numbers = {
            "num_tokens": float(before_N.size),
            "kl": k3(change_N),
            "kl_k1": float(-np.mean(change_N)),
            "entropy": float(-np.mean(sampled_N)),
            "entropy_before": _expected(-before_N, ratio_N),
            "entropy_after": _expected(-after_N, np.exp(after_N - sampled_N)),
            "ratio_mean": float(np.mean(ratio_N)),
            "ratio_min": float(np.min(ratio_N)),
            "ratio_p01": float(np.quantile(ratio_N, 0.01)),
            "ratio_p99": float(np.quantile(ratio_N, 0.99)),
            "ratio_max": float(np.max(ratio_N)),
            "effective_share": float(np.sum(ratio_N) ** 2 / np.sum(ratio_N**2) / ratio_N.size),
            "staleness_mean": float(np.mean(parent - version_N)),
            "staleness_max": float(np.max(parent - version_N)),
        }
        gap_N = (before_N - sampled_N)[(version_N == parent) & ~rolled_N]  # of what it drew itself, it is zero
    if gap_N.size:
        numbers |= {
            "sampler_gap": float(np.mean(np.abs(gap_N))),
            "sampler_gap_max": float(np.max(np.abs(gap_N))),
            "sampler_kl": k3(gap_N),
        }
    return numbers


def changes(data: Sequence[Datum], before: Sequence[Floats], after: Sequence[Floats]) -> dict[str, float]:
    """By turn, how much likelier its tokens became, in nats per token."""
    found = dict[str, float]()
    for datum, before_T, after_T in zip(data, before, after, strict=True):
        for span in datum.spans:
            where = slice(span.start, span.stop)
            found[span.turn] = float(np.mean(after_T[where].astype(np.float64) - before_T[where]))
    return found


def k3(change_N: Doubles) -> float:
    """KL(p -> q) by Schulman's k3, of ``log q - log p`` at tokens that p drew."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.mean(np.expm1(change_N) - change_N))


def _expected(values_N: Doubles, weights_N: Doubles) -> float:
    return float(np.sum(weights_N * values_N) / np.sum(weights_N))


def trained(data: Sequence[Datum], per_datum: Sequence[Floats]) -> Doubles:
    """The values of all drawn tokens, datum by datum and span by span."""
    found = [datum.trained(values) for datum, values in zip(data, per_datum, strict=True)]
    return np.concatenate(found).astype(np.float64)


def json_safe(numbers: Mapping[str, object]) -> dict[str, object]:
    """``numbers`` with ``None`` for what JSON cannot say."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in numbers.items()
    }
