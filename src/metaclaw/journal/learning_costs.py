"""What learning took, by what for.

Owns the list of purposes; refuses to know how any of it is recorded. Invariant: a purpose whose cost nobody records is
not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metaclaw.journal.skill_costs import Spent, skill_costs


def spent_by_purpose(learning_db: Path) -> Mapping[str, Spent]:
    """What was spent since ``learning_db`` was made. Raises ``JournalError``."""
    skills = skill_costs(learning_db)
    return {"evolving": skills.evolving, "trials": skills.trials}
