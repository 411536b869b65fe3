"""Which recorded turns may be trained on.

Owns the rules that depend on the turn alone; refuses to know rewards, versions and age (``metaclaw.learner.batches``).
Invariant: every rule has a name, and whoever applies it counts it.
"""

from __future__ import annotations

import math
from array import array

from metaclaw.journal.turn_records import PolicySample

MIN_TEMPERATURE = 0.3  # below, the sampled distribution is so sharp that ratios explode
_ITEM_BYTES = 4  # int32 and float32


def exclusion(sample: PolicySample) -> str | None:
    """The name of the first rule that keeps ``sample`` out of training; ``None`` when it may be trained on."""
    num_tokens = len(sample.tokens) // _ITEM_BYTES
    if sample.untrainable is not None:
        return sample.untrainable
    if sample.temperature < MIN_TEMPERATURE:
        return "temperature_too_low"
    if sample.top_p != 1.0 or sample.top_k not in (-1, 0):
        # What was cut off is missing from the sampler's log-probabilities only: the mean ratio is 0.9 at top_p 0.8.
        return "truncated_sampling"
    if num_tokens == 0 or len(sample.prompt_tokens) < _ITEM_BYTES:
        return "empty"
    if len(sample.logprobs) != len(sample.tokens) or len(sample.tokens) % _ITEM_BYTES:
        return "logprobs_mismatch"
    if not all(map(math.isfinite, array("f", sample.logprobs))):
        return "logprobs_not_finite"
    return None
