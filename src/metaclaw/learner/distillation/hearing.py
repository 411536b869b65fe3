"""What a teacher said of each turn, as it is kept for people.

Owns the numbers of one turn; refuses to know what is learned from them. Invariant: a turn that nobody spoke of is not
among them, and a token that teacher or policy does not know of counts nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from metaclaw.journal.lessons import TaughtTurn
from metaclaw.learner.datums import DatumGroup, Floats
from metaclaw.learner.distillation.lessons import Lesson


def heard(groups: Sequence[DatumGroup], student: Sequence[Floats], lesson: Lesson) -> list[TaughtTurn]:
    """What ``lesson`` says of the turns in ``groups``, beside ``student``, the policy's log-probabilities of the drawn
    tokens at temperature 1, datum by datum."""
    data = [datum for group in groups for datum in group.data]
    found = list[TaughtTurn]()
    for datum, student_T in zip(data, student, strict=True):
        for span in datum.spans:
            if (teacher_N := lesson.taught.get(span.turn)) is None:
                continue
            gap_N = teacher_N.astype(np.float64) - student_T[span.start : span.stop]
            known_N = gap_N[np.isfinite(gap_N)]
            found.append(
                TaughtTurn(
                    turn=span.turn,
                    method=lesson.method,
                    teacher=lesson.teacher,
                    num_tokens=known_N.size,
                    gap=float(np.mean(known_N)) if known_N.size else math.nan,
                    change=None,
                )
            )
    return found
