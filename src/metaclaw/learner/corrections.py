"""What each token weighs, given how the trainer sees it now.

Owns the correction for tokens that another distribution drew, and the pull towards a reference; refuses to know rewards
and who computes log-probabilities. Invariant: a weight is only ever lowered, a sequence of tokens that is masked keeps
its place in the divisor, and what is not finite is left as it is, for the check of the step to find.

A loss weighs a token by ``w``: its ratio to the sampler's probability, as far as the loss does not clip it. Its
advantage is multiplied by ``min(1, max_token_weight / w)``, so what counts is ``min(w, max_token_weight)`` (truncated
importance sampling). The sampler's own log-probability stays in the loss, and so do its bounds.

Of what an older version drew ``ppo`` would bound how far the updates since have moved it, and learn next to nothing of
what they moved. There its ratios start from the trainer as it is before the step, and the advantage has all of the
weight, ``min(w, max_token_weight)`` (the decoupled objective of Hilton et al. 2022, arXiv 2110.00641, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from metaclaw.config import UpdateSettings
from metaclaw.journal.lessons import TaughtTurn
from metaclaw.learner.datums import Datum, DatumGroup, Floats, Span
from metaclaw.learner.measurements import Doubles, k3, trained

# A sampler in bfloat16 differs from the trainer by about 0.04 nats a token, either way. Over 256 tokens their mean is
# then off by a quarter of the usual bound of 0.01; for shorter answers the bound grows as that error does, or every
# answer of one word would be left out, and only long ones learned from.
_STEADY_TOKENS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """The groups with their new advantages. ``masked`` are the turns that are not trained on, ``heard`` what teachers
    said."""

    groups: tuple[DatumGroup, ...]
    masked: tuple[str, ...]
    numbers: dict[str, float]
    heard: tuple[TaughtTurn, ...] = ()

    @property
    def num_turns(self) -> int:
        """What was to be trained on, masked or not."""
        return sum(len(datum.spans) for group in self.groups for datum in group.data)

    @property
    def is_mostly_masked(self) -> bool:
        """Whether sampler and trainer disagree about more than half: what is left then agrees by chance."""
        return 2 * len(self.masked) > self.num_turns


def as_drawn_now(groups: Sequence[DatumGroup], now: Sequence[Floats]) -> tuple[DatumGroup, ...]:
    """``groups`` that keep what the trainer says ``now``, which is what was drawn at where this update drew: the very
    weights that it asks."""
    passes = iter(now)

    def one(datum: Datum) -> Datum:
        now_T, logprobs_T = next(passes), datum.logprobs_T.copy()
        for span in datum.spans:
            if span.is_rolled_out:
                logprobs_T[span.start : span.stop] = now_T[span.start : span.stop]
        return replace(datum, logprobs_T=logprobs_T, now_T=now_T)

    return tuple(replace(group, data=tuple(map(one, group.data))) for group in groups)


def corrected(
    groups: Sequence[DatumGroup], now: Sequence[Floats], *, parent: int, settings: UpdateSettings
) -> Corrected:
    """Correct ``groups`` by ``now``, the trainer's log-probabilities of each datum's targets before the step.

    Only what version ``parent`` sampled can be masked: that sampler and trainer differ says something about one and
    the same version alone. What older versions sampled is off by design, and its weights are cut.
    """
    passes, masked, num_cut, num_masked = iter(now), list[str](), 0, 0
    found = list[DatumGroup]()
    for group in groups:
        data = list[Datum]()
        for datum in group.data:
            now_T = next(passes).astype(np.float64)
            gap_T = now_T - datum.logprobs_T
            advantages_T, from_T = datum.advantages_T.copy(), None
            for span in datum.spans:
                where = slice(span.start, span.stop)
                if _is_mismatched(gap_T[where], span, parent, settings):
                    masked.append(span.turn)
                    num_masked += span.num_tokens
                    advantages_T[where] = 0
                    continue
                factors = _factors(gap_T[where], group.loss, settings)
                num_cut += int(np.count_nonzero(factors < 1))
                if _starts_anew(gap_T[where], span, parent, group.loss, settings):
                    factors *= np.exp(gap_T[where])
                    from_T = datum.logprobs_T.copy() if from_T is None else from_T
                    from_T[where] = now_T[where]
                advantages_T[where] *= factors
            data.append(replace(datum, advantages_T=advantages_T, proximal_T=from_T))
        found.append(replace(group, data=tuple(data)))
    num_tokens = max(1, sum(span.num_tokens for group in groups for datum in group.data for span in datum.spans))
    numbers = {
        "masked_turns": float(len(masked)),
        "masked_share": num_masked / num_tokens,
        "cut_share": num_cut / num_tokens,
    }
    return Corrected(groups=tuple(found), masked=tuple(masked), numbers=numbers)


def pulled(
    groups: Sequence[DatumGroup], now: Sequence[Floats], reference: Sequence[Floats], coefficient: float
) -> tuple[tuple[DatumGroup, ...], dict[str, float]]:
    """Add to each token's advantage how much less than the average it moved away from ``reference``.

    The term is ``coefficient * (mean(d) - d)`` with ``d`` the token's log-probability now minus the reference's, over
    the same divisor as the rewards (the Tinker cookbook's ``incorporate_kl_penalty``): its sum is zero, so it changes
    which tokens are preferred, and never whether answers as such are.
    """
    data = [datum for group in groups for datum in group.data]
    away_N = trained(data, now) - trained(data, reference)
    if not np.isfinite(away_N).all():
        return tuple(groups), {"reference_kl": math.nan}
    mean, scale = float(np.mean(away_N)), coefficient / away_N.size
    passes = iter(zip(now, reference, strict=True))

    def one(datum: Datum) -> Datum:
        now_T, reference_T = next(passes)
        advantages_T = datum.advantages_T.copy()
        for span in datum.spans:
            where = slice(span.start, span.stop)
            advantages_T[where] += scale * (mean - (now_T[where] - reference_T[where]))
        return replace(datum, advantages_T=advantages_T)

    changed = tuple(replace(group, data=tuple(map(one, group.data))) for group in groups)
    return changed, {"reference_kl": k3(-away_N), "reference_kl_k1": mean}


def clipped_share(groups: Sequence[DatumGroup], now: Sequence[Floats], settings: UpdateSettings) -> float:
    """The share of trained tokens that the loss's bounds take the gradient from, or (``cispo``) bound the weight of."""
    data = [datum for group in groups for datum in group.data]
    gap_N = trained(data, now) - trained(data, [datum.ratios_from_T for datum in data])
    advantage_N = trained(data, [datum.advantages_T for datum in data])
    above_N, below_N = gap_N > math.log(settings.ratio_high), gap_N < math.log(settings.ratio_low)
    if settings.loss == "importance_sampling":
        return 0.0
    if settings.loss == "ppo":
        above_N, below_N = above_N & (advantage_N > 0), below_N & (advantage_N < 0)
    return float(np.mean(above_N | below_N))


def _is_mismatched(gap_N: Doubles, span: Span, parent: int, settings: UpdateSettings) -> bool:
    if span.version != parent or not settings.max_mismatch:
        return False
    bound = math.log1p(settings.max_mismatch) * math.sqrt(max(1.0, _STEADY_TOKENS / span.num_tokens))
    return bool(abs(float(np.mean(gap_N))) > bound)


def _starts_anew(gap_N: Doubles, span: Span, parent: int, loss: str, settings: UpdateSettings) -> bool:
    is_older = span.version != parent and loss == "ppo"
    return is_older and settings.max_token_weight > 0 and bool(np.isfinite(gap_N).all())


def _factors(gap_N: Doubles, loss: str, settings: UpdateSettings) -> Doubles:
    if not settings.max_token_weight or not np.isfinite(gap_N).all():
        return np.ones_like(gap_N)
    if loss == "cispo":
        gap_N = np.clip(gap_N, math.log(settings.ratio_low), math.log(settings.ratio_high))
    return np.exp(np.minimum(0.0, math.log(settings.max_token_weight) - gap_N))
