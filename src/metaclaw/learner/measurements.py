"""What an update did to the policy, in numbers.

Owns the estimates over an update's trained tokens; refuses to judge them (``metaclaw.learner.gate``). Invariant: two
sets of log-probabilities are only ever compared at the same temperature; the divergence is between two versions of one
trainer, and the gap between sampler and trainer is taken at one version, so that neither hides in the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from metaclaw.learner.datums import Datum, Floats


def measure(
    data: Sequence[Datum], before: Sequence[Floats], after: Sequence[Floats], *, parent: int
) -> dict[str, float]:
    """Numbers per trained token from the trainer's log-probabilities before and after the step.

    ``kl`` estimates KL(before -> after) by ``exp(d) - 1 - d`` with ``d`` the change of a token's log-probability:
    never negative, and of low variance (Schulman's k3). ``ratio_*`` compare the trainer before the step with what was
    sampled; ``sampler_gap*`` does so for turns of version ``parent`` alone and is absent when there are none.
    """
    before_N, after_N = _trained(data, before), _trained(data, after)
    sampled_N = _trained(data, [datum.logprobs_T for datum in data])
    version_N = np.concatenate([np.full(datum.targets_T.size - datum.start, datum.version) for datum in data])
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found not finite by the gate
        change_N = after_N - before_N
        ratio_N = np.exp(before_N - sampled_N)
        numbers = {
            "num_tokens": float(before_N.size),
            "kl": float(np.mean(np.expm1(change_N) - change_N)),
            "ratio_mean": float(np.mean(ratio_N)),
            "ratio_p01": float(np.quantile(ratio_N, 0.01)),
            "ratio_p99": float(np.quantile(ratio_N, 0.99)),
            "staleness_mean": float(np.mean(parent - version_N)),
            "staleness_max": float(np.max(parent - version_N)),
        }
        gap_N = np.abs(before_N - sampled_N)[version_N == parent]
    if gap_N.size:
        numbers |= {"sampler_gap": float(np.mean(gap_N)), "sampler_gap_max": float(np.max(gap_N))}
    return numbers


def json_safe(numbers: Mapping[str, object]) -> dict[str, object]:
    """``numbers`` with ``None`` for what JSON cannot say."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in numbers.items()
    }


def _trained(data: Sequence[Datum], per_datum: Sequence[Floats]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.concatenate([values[datum.start :] for datum, values in zip(data, per_datum, strict=True)]).astype(
        np.float64
    )
