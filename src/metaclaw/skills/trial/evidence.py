"""What recorded comparisons say.

Owns turning them into observations and those into a verdict; refuses to know how they were made. Invariant: a
comparison that says nothing counts for nothing, neither for the skill nor against it.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.journal.skill_records import Candidate, Comparison
from metaclaw.skills.trial.arms import experiment_observation, paired_observation
from metaclaw.skills.trial.sequential import Observation
from metaclaw.skills.trial.verdicts import TrialRule, TrialVerdict, decide


def verdict_on(candidate: Candidate, comparisons: Sequence[Comparison], rule: TrialRule) -> TrialVerdict:
    """The verdict that comparisons allow."""
    fitting = [seen for one in comparisons if one.fits and (seen := observation(candidate, one)) is not None]
    others = [seen for one in comparisons if not one.fits and (seen := observation(candidate, one)) is not None]
    return decide(fitting, others, rule)


def observation(candidate: Candidate, comparison: Comparison) -> Observation | None:
    """What a comparison says, ``None`` when it says nothing."""
    with_it, without_it = comparison.with_score, comparison.without_score
    if comparison.void is not None:
        return None
    if comparison.kind == "replay":
        return None if with_it is None or without_it is None else paired_observation(with_it, without_it)
    reward = with_it if with_it is not None else without_it
    if reward is None or candidate.experiment is None:
        return None
    experiment = candidate.experiment
    return experiment_observation(reward, served=with_it is not None, share=experiment.share, usual=experiment.usual)
