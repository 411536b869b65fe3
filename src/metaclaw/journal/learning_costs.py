"""What learning took, by what for.

Owns the list of purposes and the sums over ``learning.db``, read-only; refuses to know prices. Invariant: what is
unknown is counted as unknown, and is never a part of a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from metaclaw.journal.database import reading
from metaclaw.journal.paid_calls import Purpose, calls_in
from metaclaw.journal.skill_costs import Spent, skill_costs, spent

_OF_CALLS = "SELECT prompt_tokens, completion_tokens, cost_usd FROM {} WHERE purpose = ?"


def spent_by_purpose(learning_db: Path) -> Mapping[str, Spent]:
    """What was spent since ``learning_db`` was made. Raises ``JournalError``.

    ``evolving`` is writing skills, ``trials`` answering replays, ``judging`` the scoring of exchanges and replays,
    ``comparing`` that of answers for the gate, ``remembering`` reading exchanges for memories, ``teaching`` asking a
    teacher elsewhere.
    """
    skills = skill_costs(learning_db)
    return {"evolving": skills.evolving, "trials": skills.trials, **_of_calls(learning_db)}


def _of_calls(learning_db: Path) -> Mapping[str, Spent]:
    purposes = get_args(Purpose)
    if not learning_db.exists():
        return dict.fromkeys(purposes, Spent())
    with reading(learning_db) as connection:
        query = _OF_CALLS.format(calls_in(connection))
        return {purpose: spent(connection, query, (purpose,)) for purpose in purposes}
