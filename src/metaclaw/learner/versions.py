"""Going back to an earlier version of an agent's policy.

Owns the rules of a rollback; refuses to know the command line. Invariant: only what was committed, or the base model,
can serve, and each change is recorded with its reason.
"""

from __future__ import annotations

from metaclaw.errors import ConflictError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import BASE_VERSION


def roll_back(
    journal: LearningJournal, agent: str, to: int | None = None, *, why: str = "asked for by the user"
) -> int:
    """Let ``to`` serve again, by default the parent of what serves; return its number.

    An update that is running meanwhile does not commit, and the next one starts from the version that serves. Raises
    ``NotFoundError`` for a version that does not exist, ``ConflictError`` when there is nothing to go back to or its
    weights were deleted.
    """
    serving = journal.serving(agent)
    if to is None:
        if serving == BASE_VERSION:
            raise ConflictError(f"agent {agent!r} is served by the base model: there is nothing to go back to")
        to = journal.version(agent, serving).parent
    journal.serve(agent, to, f"rollback from {serving}: {why}")
    return to
