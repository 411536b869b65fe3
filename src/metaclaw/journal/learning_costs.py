"""What learning took, by what for.

Owns the list of purposes and the sums over ``learning.db``, read-only; refuses to know prices. Invariant: what is
unknown is counted as unknown, and is never a part of a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from metaclaw.journal import teacher_book
from metaclaw.journal.database import open_reader
from metaclaw.journal.skill_costs import Spent, skill_costs, spent

_SCHEMA = 8  # the first that knows what extraction took
_OF_CALLS = {
    "judging": "SELECT prompt_tokens, completion_tokens, cost_usd FROM judge_calls WHERE purpose = 'exchange'",
    "comparing": "SELECT prompt_tokens, completion_tokens, cost_usd FROM judge_calls WHERE purpose = 'pair'",
    "remembering": "SELECT prompt_tokens, completion_tokens, cost_usd FROM extraction_calls",
}
_OF_TEACHERS = {"teaching": "SELECT prompt_tokens, completion_tokens, cost_usd FROM teacher_calls"}


def spent_by_purpose(learning_db: Path) -> Mapping[str, Spent]:
    """What was spent since ``learning_db`` was made. Raises ``JournalError``.

    ``evolving`` is writing skills, ``trials`` answering replays, ``judging`` the scoring of exchanges and replays,
    ``comparing`` that of answers for the gate, ``remembering`` reading exchanges for memories, ``teaching`` asking a
    teacher elsewhere.
    """
    skills = skill_costs(learning_db)
    return {"evolving": skills.evolving, "trials": skills.trials, **_of_calls(learning_db)}


def _of_calls(learning_db: Path) -> Mapping[str, Spent]:
    nothing = dict.fromkeys([*_OF_CALLS, *_OF_TEACHERS], Spent())
    if not learning_db.exists():
        return nothing
    with closing(open_reader(learning_db)) as connection:
        # The learner brings an older one up to date when it starts.
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        known = (_OF_CALLS if schema >= _SCHEMA else {}) | (_OF_TEACHERS if schema >= teacher_book.SCHEMA else {})
        return nothing | {purpose: spent(connection, query, ()) for purpose, query in known.items()}
