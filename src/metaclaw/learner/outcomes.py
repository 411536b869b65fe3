"""How an attempt at an update ended.

Owns the plain data; refuses to know how updates are made, so that the learner's loop runs without their packages.
"""

from __future__ import annotations

from dataclasses import dataclass

from metaclaw.journal.learning_records import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """No update yet, and for what it waits."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The update was made and refused."""

    update_id: int
    reason: str


Outcome = Waiting | Rejected | Version
