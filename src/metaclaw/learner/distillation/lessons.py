"""What teachers said of an update's turns.

Owns the plain data between who asks a teacher and who weighs its word; refuses to know either. Invariant: a turn that
no teacher could be asked about is in no lesson, and how many those are is among the numbers.

Shapes: ``N`` tokens of an answer, ``K`` tokens at each place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metaclaw.config import MethodName
from metaclaw.learner.datums import Floats, Ints
from metaclaw.learner.gate.steps import StepLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeliest:
    """What a teacher finds likeliest at each place, and the drawn token; what there is less of is minus infinity."""

    tokens_NK: Ints
    logprobs_NK: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One method's: by turn, the teacher's log-probability of each token of its answer, at temperature 1.

    ``weight`` is what a nat counts beside a reward's 1, ``max_gap`` how many of them count at most. What a teacher
    could not tell of a token is not a number. Where there are ``likeliest``, these are learned instead.
    """

    method: MethodName
    teacher: str  # who it was, for people
    weight: float
    max_gap: float
    taught: Mapping[str, Floats]
    likeliest: Mapping[str, Likeliest] = field(default_factory=dict[str, Likeliest])
    limits: StepLimits | None = None
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """All of an update."""

    each: tuple[Lesson, ...] = ()

    @property
    def numbers(self) -> dict[str, float]:
        return {key: value for lesson in self.each for key, value in lesson.numbers.items()}

    @property
    def num_taught(self) -> int:
        return len({turn for lesson in self.each for turn in lesson.taught})

    @property
    def limits(self) -> tuple[StepLimits, ...]:
        """How far a step may go that these have a part in."""
        return tuple(lesson.limits for lesson in self.each if lesson.limits is not None and lesson.taught)


NO_LESSONS = Lessons()
