"""What learning took, by what for.

Owns the list of purposes and the sums over ``learning.db``, read-only; refuses to know prices. Invariant: what is
unknown is counted as unknown, and is never a part of a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from metaclaw.journal.database import open_reader
from metaclaw.journal.skill_costs import Spent, skill_costs, spent

_SCHEMA = 8  # the first that knows what extraction took
_OF_CALLS = {
    "judging": "SELECT prompt_tokens, completion_tokens, cost_usd FROM judge_calls WHERE purpose = 'exchange'",
    "comparing": "SELECT prompt_tokens, completion_tokens, cost_usd FROM judge_calls WHERE purpose = 'pair'",
    "remembering": "SELECT prompt_tokens, completion_tokens, cost_usd FROM extraction_calls",
}


def spent_by_purpose(learning_db: Path) -> Mapping[str, Spent]:
    """What was spent since ``learning_db`` was made. Raises ``JournalError``.

    ``evolving`` is writing skills, ``trials`` answering replays, ``judging`` the scoring of exchanges and replays,
    ``comparing`` that of answers for the gate, ``remembering`` reading exchanges for memories.
    """
    skills = skill_costs(learning_db)
    return {"evolving": skills.evolving, "trials": skills.trials, **_of_calls(learning_db)}


def _of_calls(learning_db: Path) -> Mapping[str, Spent]:
    nothing = dict.fromkeys(_OF_CALLS, Spent())
    if not learning_db.exists():
        return nothing
    with closing(open_reader(learning_db)) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] < _SCHEMA:
            return nothing  # the learner brings it up to date when it starts
        return {purpose: spent(connection, query, ()) for purpose, query in _OF_CALLS.items()}
