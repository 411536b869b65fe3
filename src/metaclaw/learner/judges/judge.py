"""What a judge sees and says.

Owns the exchange as it is judged and the verdict; refuses to know who judges. Invariant: a verdict with a score is a
number in [-1, 1]; a judge that cannot tell raises ``JudgeError`` or says that it has no opinion, and neither is a zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Protocol, cast

from metaclaw.errors import JudgeError


class JudgeUnavailableError(JudgeError):
    """The judge could not be asked, whatever the exchange: it is down, overloaded, or not ours to use."""

    code = "judge_unavailable"


class NoOpinionError(JudgeError):
    """The judge has nothing to say about exchanges of this kind, whoever answers: that is no failure."""

    code = "no_opinion"


class JudgeBudgetError(JudgeUnavailableError):
    """The day's tokens or money for judging are used up."""

    code = "judge_budget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A human message and all that the agent made of it.

    ``prompt`` is the human's text and ``answer`` the agent's last one; ``messages`` is the whole history that the agent
    saw at its last turn, tool results included, in OpenAI's shape and without what was recalled. ``followup`` is what
    the human said next, when there is something and the judge asked for it. ``feedback`` is the newest score that a
    person gave it, ``remark`` what persons wrote of it without one.
    """

    id: str
    agent: str
    session: str
    turn_ids: tuple[str, ...]
    prompt: str
    answer: str
    messages: tuple[dict[str, Any], ...]
    finish_reason: str | None
    followup: str | None = None
    feedback: float | None = None
    remark: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What one source said, whether or not it decided."""

    source: str
    judge: str
    score: float
    detail: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``score`` of ``None`` is "no opinion": the exchange is not learned from. ``judge`` is who decided, where several
    could; ``opinions`` are all that were asked for."""

    score: float | None
    detail: dict[str, Any] = field(default_factory=dict[str, Any])
    judge: str | None = None
    opinions: tuple[Opinion, ...] = ()


class Judge(Protocol):
    """Scores exchanges. ``needs_followup``: wait for what the human says next, or for the silence after it."""

    @property
    def name(self) -> str: ...

    @property
    def needs_followup(self) -> bool: ...

    async def judge(self, exchange: Exchange) -> Verdict:
        """Score one exchange; raises ``JudgeError`` when that fails, ``JudgeUnavailableError`` when nobody is there."""
        ...


def checked_score(judge: str, value: object) -> float:
    """``value`` as a score; raises ``JudgeError`` when it is not a number in [-1, 1]."""
    if isinstance(value, bool) or not isinstance(value, Real):  # numpy's are too
        raise JudgeError(f"{judge} returned {value!r:.80}, not a number in [-1, 1]")
    number = cast("float", value)
    if not -1 <= number <= 1:  # nor is what is not a number; an integer may be too large for a float
        raise JudgeError(f"{judge} returned {_shown(number)}, which is not in [-1, 1]")
    return float(number)


def _shown(number: float) -> str:
    try:
        return f"{number!r:.80}"
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
