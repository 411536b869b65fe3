"""When a trial is over.

Owns the decision from what was observed; refuses to know how it was. Invariant: a skill is adopted on evidence alone,
and the end of the budget is never evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metaclaw.skills.trial.sequential import Observation, capital_above, capital_below

Outcome = Literal["adopt", "reject", "undecided"]

# Harm needs less proof than help: a useful skill that is turned down may be proposed again, a harmful one is served.
_HARM_ERROR = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRule:
    """``error`` bounds how often a skill that does not help is adopted. A skill whose help is shown to be below
    ``worthwhile`` is not worth its tokens, and one that is not decided after ``max_observations`` is given up.
    """

    error: float = 0.05
    worthwhile: float = 0.1
    max_observations: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialVerdict:
    """What is to be done, and why, in a sentence with its numbers."""

    outcome: Outcome
    reason: str
    num_observations: int
    mean: float  # of the difference in reward, where from always wrong to always right is 1
    evidence: float  # how many times a gambler on "it helps" has multiplied the stake


def decide(fitting: Sequence[Observation], others: Sequence[Observation], rule: TrialRule) -> TrialVerdict:
    """The verdict on a skill, from exchanges that it fits and from some that it does not."""
    evidence = capital_above(fitting)
    outcome, reason = _outcome(fitting, others, rule, evidence)
    return TrialVerdict(
        outcome=outcome,
        reason=reason,
        num_observations=len(fitting),
        mean=mean_of(fitting),
        evidence=evidence,
    )


def mean_of(observations: Sequence[Observation]) -> float:
    """The mean difference; 0 when there is none."""
    return sum(seen.value for seen in observations) / len(observations) if observations else 0.0


def _outcome(
    fitting: Sequence[Observation], others: Sequence[Observation], rule: TrialRule, evidence: float
) -> tuple[Outcome, str]:
    seen = f"{mean_of(fitting):+.2f} over {len(fitting)} comparisons"
    if capital_below(others) >= 1 / _HARM_ERROR:
        return "reject", f"it harms where it does not belong: {mean_of(others):+.2f} over {len(others)} comparisons"
    if evidence >= 1 / rule.error:
        return "adopt", f"it helps: {seen}, at most {rule.error:.0%} by chance"
    if capital_below(fitting) >= 1 / _HARM_ERROR:
        return "reject", f"it harms: {seen}"
    if capital_below(fitting, rule.worthwhile) >= 1 / rule.error:
        return "reject", f"it does not help enough to be worth its tokens: {seen}"
    if len(fitting) >= rule.max_observations:
        return "reject", f"nothing shows that it helps, and the trial's budget is used up: {seen}"
    return "undecided", f"not decided yet: {seen}"
