"""How a teacher's word becomes an advantage.

Owns that arithmetic; refuses to know who the teacher is. Invariant: the advantage of a token is ``weight`` times the
teacher's log-probability of it minus the policy's, both at temperature 1, over the divisor that rewards have; where
either is not known it is zero.

In expectation over the policy's own answers this is the gradient of the reverse KL from policy to teacher, token by
token (Agarwal et al., arXiv 2306.13649; as an advantage in the Tinker cookbook's on-policy distillation). A log-ratio
can be as large as the vocabulary is wide, so it is cut at ``max_gap``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from metaclaw.learner.datums import Datum, DatumGroup, Floats
from metaclaw.learner.distillation.lessons import Lesson
from metaclaw.learner.measurements import Doubles


def leaned(
    groups: Sequence[DatumGroup], student: Sequence[Floats], lesson: Lesson
) -> tuple[tuple[DatumGroup, ...], dict[str, float]]:
    """``groups`` with the lesson in their advantages. ``student`` are the policy's log-probabilities, datum by datum.

    The numbers are over what was taught: ``kl`` is the mean of policy minus teacher, in nats per token.
    """
    num_tokens = sum(span.num_tokens for group in groups for datum in group.data for span in datum.spans)
    scale, passes, gaps = lesson.weight / max(1, num_tokens), iter(student), list[Doubles]()

    def one(datum: Datum) -> Datum:
        student_T, advantages_T = next(passes), datum.advantages_T.copy()
        for span in datum.spans:
            if (teacher_N := lesson.taught.get(span.turn)) is None:
                continue
            where = slice(span.start, span.stop)
            gap_N = teacher_N.astype(np.float64) - student_T[where]
            known_N = np.isfinite(gap_N)
            gap_N = np.where(known_N, gap_N, 0.0)
            advantages_T[where] += scale * np.clip(gap_N, -lesson.max_gap, lesson.max_gap)
            gaps.append(gap_N[known_N])
        return replace(datum, advantages_T=advantages_T)

    changed = tuple(replace(group, data=tuple(map(one, group.data))) for group in groups)
    return changed, _numbers(lesson, gaps)


def _numbers(lesson: Lesson, gaps: Sequence[Doubles]) -> dict[str, float]:
    gap_N = np.concatenate(gaps) if gaps else np.zeros(0)
    numbers = {f"{lesson.method}/taught_tokens": float(gap_N.size)}
    if gap_N.size:
        numbers[f"{lesson.method}/kl"] = float(-np.mean(gap_N))
        numbers[f"{lesson.method}/gap"] = float(np.mean(np.abs(gap_N)))
        numbers[f"{lesson.method}/cut_share"] = float(np.mean(np.abs(gap_N) > lesson.max_gap))
    return numbers
