"""What is examined, and what comes of it.

Owns the plain data between an update and the gate; refuses to know either. Invariant: an examination says by its
numbers what it rests on, whether it passed or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from metaclaw.errors import BackendError
from metaclaw.learner.gate.finished import Finished


class GateWaitsError(BackendError):
    """A version cannot be examined now, whatever it is worth: it does not serve, and its samples are pending again."""

    code = "gate_waits"
    retryable: ClassVar[bool] = True
    rest_s: ClassVar[float] = 3600.0  # at least, as each try trains again, and has answers drawn and judged


class JudgeAwayError(GateWaitsError):
    """Nobody is there to compare answers: what was drawn so far stands, and the examination can go on there later."""

    rest_s: ClassVar[float] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWeights:
    """A version that was saved and does not serve yet. Paths name sampler weights; ``None`` is the base model.

    ``turns`` are what it was trained on, ``finished`` what of its examination is done: given again after an
    interruption, it goes on there.
    """

    agent: str
    update_id: int
    parent_path: str | None
    path: str
    turns: tuple[str, ...]
    finished: Finished = field(default_factory=Finished, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """``refused`` is why the version must not serve, ``None`` when it may. Every number begins with ``gate/``."""

    refused: str | None
    numbers: Mapping[str, object]


class Examiner(Protocol):
    """Who decides whether a version may serve."""

    async def examine(self, new: NewWeights) -> Examination:
        """Examine ``new``. Raises ``BackendError`` when that cannot be done now."""
        ...
