"""Who gets a skill that is on experiment.

Owns the draw and what a draw's reward says; refuses to know rewards and requests. Invariant: an exchange is in one arm
for ever, whoever asks and however often the request is sent again; nothing but the skill's id and the message decides.
"""

from __future__ import annotations

import hashlib

from metaclaw.skills.trial.sequential import Observation


def is_served(candidate: str, message: bytes, share: float) -> bool:
    """Whether the human message with this key gets the candidate. ``share`` is how many of all do."""
    digest = hashlib.sha256(candidate.encode() + b"\n" + message).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def experiment_observation(reward: float, *, served: bool, share: float, usual: float) -> Observation:
    """What the reward of one exchange says of the skill.

    Weighted by how likely its arm was, its expectation is the difference between the arms, in halves (rewards are in
    [-1, 1]). ``usual`` is any reward that was fixed before the experiment began; near the mean, it makes less noise.
    """
    weight = 1 / share if served else -1 / (1 - share)
    largest = max(1 - usual, 1 + usual)
    return Observation(value=(reward - usual) * weight / 2, bound=largest / (2 * min(share, 1 - share)))


def paired_observation(with_it: float, without_it: float) -> Observation:
    """What two answers to one request say of the skill; rewards are in [-1, 1]."""
    return Observation(value=(with_it - without_it) / 2)
