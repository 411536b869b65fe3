"""The one writer of ``learning.db``.

Owns putting together what it consists of; refuses to know any of it. Invariant: one connection and one lock for all.
"""

from __future__ import annotations

from metaclaw.journal.judgements import Judgements
from metaclaw.journal.learning_connection import Clock
from metaclaw.journal.saved_weights import WeightsLedger
from metaclaw.journal.updates import Updates
from metaclaw.journal.versions import Versions

__all__ = ["Clock", "LearningJournal"]


class LearningJournal(Judgements, Updates, Versions, WeightsLedger):
    """Judgements and samples, updates, versions, saved weights: each a class of its own, by what changes together."""
