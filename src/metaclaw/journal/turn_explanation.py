"""Why a turn went as it did.

Owns putting together what the journal's two halves say of one turn; refuses to know how it is shown. Invariant: it only
reads, and what is not known is ``None`` or empty, never guessed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaclaw.errors import NotFoundError
from metaclaw.journal.database import open_reader
from metaclaw.journal.turn_reader import TurnReader
from metaclaw.journal.turn_records import Feedback, RecordedTurn, Weighed, exchange_key


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAnswer:
    """The policy version that answered; ``reward`` and ``state`` are of its sample, once it was judged."""

    version: int
    model: str
    untrainable: str | None
    state: str | None = None
    reward: float | None = None


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
    """All that is known. ``weighed_in`` is the turn that brought the human message, at which things were weighed."""

    turn: RecordedTurn
    recalled: tuple[str, ...]
    weighed: tuple[Weighed, ...]
    weighed_in: str | None
    policy: PolicyAnswer | None
    verdict: Verdict | None
    feedback: tuple[Feedback, ...]


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
    verdict, row = _learned(learning_db, turn)
    policy = None
    if sample is not None:
        state, reward = row or (None, None)
        policy = PolicyAnswer(
            version=sample.version, model=sample.model, untrainable=sample.untrainable, state=state, reward=reward
        )
    return Explanation(
        turn=turn,
        recalled=turn.recalled,
        weighed=tuple(weighed),
        weighed_in=weighed_in,
        policy=policy,
        verdict=verdict,
        feedback=feedback,
    )


def _weighed(reader: TurnReader, turn: RecordedTurn) -> tuple[str | None, list[Weighed]]:
    if own := reader.weighed(turn.id):
        return turn.id, own
    # A later turn of a tool loop, or another try at the same message.
    for other in reader.about_the_same(turn.agent, turn.session, exchange_key(turn.exchange)):
        if weighed := reader.weighed(other):
            return other, weighed
    return None, []


def _learned(learning_db: Path, turn: RecordedTurn) -> tuple[Verdict | None, tuple[str, float] | None]:
    if not learning_db.exists():
        return None, None
    with closing(open_reader(learning_db)) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            return None, None
        sample = connection.execute("SELECT state, reward FROM samples WHERE turn = ?", (turn.id,)).fetchone()
        return _verdict(connection, turn.exchange), sample


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
