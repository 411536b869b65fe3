"""Why a turn went as it did.

Owns putting together what the journal's two halves say of one turn; refuses to know how it is shown. Invariant: it only
reads, and what is not known is ``None`` or empty, never guessed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaclaw.errors import NotFoundError
from metaclaw.journal import lessons as lesson_table
from metaclaw.journal.database import reading
from metaclaw.journal.lessons import TaughtIn, lessons_of
from metaclaw.journal.skill_reader import SkillReader
from metaclaw.journal.turn_reader import TurnReader
from metaclaw.journal.turn_records import Feedback, RecordedTurn, Weighed, exchange_key

_WITH_RULES = 4  # the schema since which learning.db says by which rule a sample was given up


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAnswer:
    """The policy version that answered; what follows ``untrainable`` is of its sample, once it was judged.

    ``excluded_by`` is the rule that gave it up, ``trained_in`` the version that was trained on it.
    """

    version: int
    model: str
    untrainable: str | None
    state: str | None = None
    reward: float | None = None
    excluded_by: str | None = None
    trained_in: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How an exchange was judged. A judge that failed has no score."""

    state: str
    score: float | None
    judge: str
    attempts: int
    judged_at: float
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All that is known. ``weighed_in`` is the turn that brought the human message, at which things were weighed.

    ``generation`` is that of the agent's skills when the turn was opened, ``generation_now`` what it is by now.
    """

    turn: RecordedTurn
    recalled: tuple[str, ...]
    weighed: tuple[Weighed, ...]
    weighed_in: str | None
    policy: PolicyAnswer | None
    verdict: Verdict | None
    lessons: tuple[TaughtIn, ...]
    feedback: tuple[Feedback, ...]
    generation: int
    generation_now: int


def explain(turns_db: Path, learning_db: Path, turn_id: str) -> Explanation:
    """What is known of ``turn_id``. Raises ``JournalError``, and ``NotFoundError`` for a turn that is not there."""
    with TurnReader.open(turns_db) as reader:
        turn = reader.turn(turn_id)
        if turn is None:
            raise NotFoundError(
                f"there is no turn {turn_id!r}; an answer has its turn in the header X-MetaClaw-Turn, and"
                " `metaclaw journal export` prints all"
            )
        weighed_in, weighed = _weighed(reader, turn)
        sample = reader.sample(turn_id)
        feedback = tuple(reader.feedback(turn.exchange))
    verdict, row, lessons = _learned(learning_db, turn)
    with SkillReader.open(learning_db) as skills:
        generation, now = skills.generation(turn.agent, turn.opened_at), skills.generation(turn.agent)
    policy = None
    if sample is not None:
        policy = PolicyAnswer(version=sample.version, model=sample.model, untrainable=sample.untrainable, **(row or {}))
    return Explanation(
        turn=turn,
        recalled=turn.recalled,
        weighed=tuple(weighed),
        weighed_in=weighed_in,
        policy=policy,
        verdict=verdict,
        lessons=tuple(lessons),
        feedback=feedback,
        generation=generation,
        generation_now=now,
    )


def _weighed(reader: TurnReader, turn: RecordedTurn) -> tuple[str | None, list[Weighed]]:
    if own := reader.weighed(turn.id):
        return turn.id, own
    # A later turn of a tool loop, or another try at the same message.
    for other in reader.about_the_same(turn.agent, turn.session, exchange_key(turn.exchange)):
        if weighed := reader.weighed(other):
            return other, weighed
    return None, []


def _learned(learning_db: Path, turn: RecordedTurn) -> tuple[Verdict | None, dict[str, Any] | None, list[TaughtIn]]:
    if not learning_db.exists():
        return None, None, []
    with reading(learning_db) as connection:
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        if schema == 0:
            return None, None, []
        columns = ("state", "reward", *(("excluded_by",) if schema >= _WITH_RULES else ()))
        row = connection.execute(f"SELECT {', '.join(columns)} FROM samples WHERE turn = ?", (turn.id,)).fetchone()
        sample = None if row is None else dict(zip(columns, row, strict=True))
        trained = connection.execute("SELECT version FROM manifests WHERE turn = ?", (turn.id,)).fetchone()
        if sample is not None and trained is not None:
            sample["trained_in"] = trained[0]
        lessons = lessons_of(connection, turn.id) if schema >= lesson_table.SCHEMA else []
        return _verdict(connection, turn.exchange), sample, lessons


def _verdict(connection: sqlite3.Connection, exchange: str) -> Verdict | None:
    row = connection.execute(
        "SELECT state, score, judge, attempts, judged_at, detail FROM judgements WHERE exchange = ?", (exchange,)
    ).fetchone()
    if row is None:
        return None
    state, score, judge, attempts, judged_at, detail = row
    return Verdict(
        state=state, score=score, judge=judge, attempts=attempts, judged_at=judged_at, detail=json.loads(detail)
    )
