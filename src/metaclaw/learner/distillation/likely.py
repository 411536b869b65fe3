"""How a teacher's likeliest tokens are learned.

Owns that arithmetic; refuses to know who the teacher is. Invariant: what is followed is the gradient of the reverse KL
from policy to teacher over ``K`` tokens and one more outcome, "any other"; where nothing is known it is zero.

With ``S`` and ``T`` the log-probabilities of policy and teacher and ``r`` their differences, the gradient of that KL is
the sum over the tokens of ``exp(S) * (r - r of any other)`` times the gradient of ``S``: the policy's probabilities of
all outcomes add up to 1. So those are minus the weights of a cross-entropy of ``K`` targets. A penalty on the advantage
of the drawn token would have no gradient at all, as it does not depend on what was drawn.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from metaclaw.learner.datums import Datum, DatumGroup, Floats, Likely
from metaclaw.learner.distillation.lessons import Lesson, Likeliest
from metaclaw.learner.measurements import Doubles

_LEAST = 1e-6  # of the probability that is left for any other token


def asked_about(groups: Sequence[DatumGroup], lesson: Lesson) -> tuple[DatumGroup, ...]:
    """``groups`` with the tokens that the lesson is about, which as yet weigh nothing."""
    width = max((one.tokens_NK.shape[1] for one in lesson.likeliest.values()), default=0)

    def one(datum: Datum) -> Datum:
        if not any(span.turn in lesson.likeliest for span in datum.spans):
            return datum
        targets_TK = np.zeros((datum.targets_T.size, width), np.int64)
        for span in datum.spans:
            if (told := lesson.likeliest.get(span.turn)) is not None:
                targets_TK[span.start : span.stop, : told.tokens_NK.shape[1]] = told.tokens_NK
        return replace(datum, likely=Likely(targets_TK=targets_TK, weights_TK=np.zeros(targets_TK.shape, np.float32)))

    return tuple(replace(group, data=tuple(map(one, group.data))) for group in groups)


def weighed(
    groups: Sequence[DatumGroup], student: Sequence[Floats], lesson: Lesson
) -> tuple[tuple[DatumGroup, ...], dict[str, float]]:
    """``groups`` with the weights. ``student`` are the policy's log-probabilities ``(T, K)`` of what was asked about.

    The numbers are over what was taught: ``kl`` is the mean of that KL, in nats per token.
    """
    num_tokens = sum(span.num_tokens for group in groups for datum in group.data for span in datum.spans)
    scale, passes, distances = lesson.weight / max(1, num_tokens), iter(student), list[Doubles]()

    def one(datum: Datum) -> Datum:
        if datum.likely is None:
            return datum
        student_TK, weights_TK = next(passes), datum.likely.weights_TK.copy()
        for span in datum.spans:
            if (told := lesson.likeliest.get(span.turn)) is None:
                continue
            width = told.tokens_NK.shape[1]
            slopes_NK, kl_N = _slopes(student_TK[span.start : span.stop, :width], told, lesson.max_gap)
            weights_TK[span.start : span.stop, :width] = -scale * slopes_NK
            distances.append(kl_N)
        return replace(datum, likely=replace(datum.likely, weights_TK=weights_TK))

    changed = tuple(replace(group, data=tuple(map(one, group.data))) for group in groups)
    kl_N = np.concatenate(distances) if distances else np.zeros(0)
    numbers = {f"{lesson.method}/taught_tokens": float(kl_N.size)}
    return changed, numbers | ({f"{lesson.method}/kl": float(np.mean(kl_N))} if kl_N.size else {})


def drawn(groups: Sequence[DatumGroup], student: Sequence[Floats]) -> list[Floats]:
    """Of ``student``, the policy's log-probabilities ``(T, K)`` of what was asked about, those of the drawn tokens,
    datum by datum; not a number where nothing was asked."""
    passes = iter(student)

    def one(datum: Datum) -> Floats:
        found_T = np.full(datum.targets_T.size, np.nan, np.float32)
        if datum.likely is not None:
            is_drawn_TK = datum.likely.targets_TK == datum.targets_T[:, None]
            places_T = is_drawn_TK.any(axis=1)
            found_T[places_T] = next(passes)[places_T, is_drawn_TK.argmax(axis=1)[places_T]]
        return found_T

    return [one(datum) for group in groups for datum in group.data]


def without(groups: Sequence[DatumGroup], turns: Collection[str]) -> tuple[DatumGroup, ...]:
    """``groups`` in which nothing is learned of what was likely in the answers of ``turns``."""

    def one(datum: Datum) -> Datum:
        if datum.likely is None:
            return datum
        weights_TK = datum.likely.weights_TK.copy()
        for span in datum.spans:
            if span.turn in turns:
                weights_TK[span.start : span.stop] = 0
        return replace(datum, likely=replace(datum.likely, weights_TK=weights_TK))

    return tuple(replace(group, data=tuple(map(one, group.data))) for group in groups)


def _slopes(student_NK: Floats, told: Likeliest, max_gap: float) -> tuple[Doubles, Doubles]:
    """The factor of each token's gradient, and the KL of the places where teacher and policy are known."""
    known_NK = np.isfinite(told.logprobs_NK) & np.isfinite(student_NK)
    own_NK = np.where(known_NK, student_NK, -np.inf).astype(np.float64)
    its_NK = np.where(known_NK, told.logprobs_NK, -np.inf).astype(np.float64)
    share_NK = np.exp(own_NK)
    own_rest_N = np.maximum(_LEAST, 1 - share_NK.sum(axis=1))
    its_rest_N = np.maximum(_LEAST, 1 - np.exp(its_NK).sum(axis=1))
    ratio_NK = np.where(known_NK, np.subtract(own_NK, its_NK, out=np.zeros_like(own_NK), where=known_NK), 0.0)
    rest_N = np.log(own_rest_N) - np.log(its_rest_N)
    slopes_NK = share_NK * (np.clip(ratio_NK, -max_gap, max_gap) - np.clip(rest_N, -max_gap, max_gap)[:, None])
    is_told_N = known_NK.any(axis=1)
    kl_N = (share_NK * ratio_NK).sum(axis=1) + own_rest_N * rest_N
    return np.where(known_NK, slopes_NK, 0.0), kl_N[is_told_N]
