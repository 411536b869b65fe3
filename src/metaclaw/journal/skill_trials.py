"""The one writer of the skill tables of ``learning.db``.

Owns the life of candidates and the agents' generations; refuses to know how a skill is proposed, tried or served.
Invariant: a candidate leaves its trial once, an exchange is compared once for a candidate, and a generation is an
adoption.

It has a connection of its own beside that of the ``LearningJournal``, in the same process: both write in short
transactions, and neither waits for what the other is computing.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from metaclaw.errors import ConflictError
from metaclaw.journal.learning_connection import Clock, LearningConnection
from metaclaw.journal.skill_reader import SkillReader
from metaclaw.journal.skill_records import Comparison, Evolution, NewCandidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """A skill that an exchange was given."""

    skill: str
    exchange: str
    agent: str
    seq: int
    recalled_at: float


class SkillTrials(LearningConnection):
    """A connection of its own, for the learner's process alone."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock = time.time) -> None:
        super().__init__(connection, clock)
        self._reader = SkillReader(connection)

    @contextmanager
    def reading(self) -> Generator[SkillReader]:
        """What is recorded; not for long."""
        with self._read():
            yield self._reader

    def record_evolution(
        self, run: Evolution, candidates: Sequence[NewCandidate] = (), *, seen: Iterable[str] = ()
    ) -> None:
        """Record that an evolver was asked, what it proposed, and the failures that it need not see again.

        Raises ``ConflictError`` when a candidate of one of the names is on trial for the agent.
        """
        now = self._clock()
        with self._write() as db:
            number = db.execute(
                """
                INSERT INTO evolutions (agent, author, num_failures, num_candidates, refused, error, prompt_tokens,
                    completion_tokens, cost_usd, created_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
                (run.agent, run.author, run.num_failures, len(candidates), json.dumps(run.refused), run.error,
                 run.prompt_tokens, run.completion_tokens, run.cost_usd, now),
            ).lastrowid  # fmt: skip
            db.executemany(
                "INSERT INTO evidence (exchange, evolution) VALUES (?, ?) ON CONFLICT (exchange) DO NOTHING",
                [(exchange, number) for exchange in seen],
            )
            for candidate in candidates:
                self._propose(db, candidate, now)

    def compare(self, comparison: Comparison) -> None:
        """Record what a candidate changed in an exchange. What is known already stays."""
        with self._write() as db:
            db.execute(
                """
                INSERT INTO comparisons (candidate, exchange, kind, fits, with_score, without_score, void, created_at,
                    prompt_tokens, completion_tokens, cost_usd)
                VALUES (:candidate, :exchange, :kind, :fits, :with_score, :without_score, :void, :now, :prompt_tokens,
                    :completion_tokens, :cost_usd)
                ON CONFLICT (candidate, exchange) DO NOTHING
                """,
                {**asdict(comparison), "now": self._clock()},
            )

    def begin_experiment(self, candidate_id: str, *, share: float, usual: float) -> None:
        """Serve a candidate to a share of turns from now on. Raises ``ConflictError`` when it is not on trial."""
        with self._write() as db:
            changed = db.execute(
                """
                UPDATE candidates SET experiment_since = ?, experiment_share = ?, experiment_usual = ?
                WHERE id = ? AND state = 'trial' AND experiment_since IS NULL
                """,
                (self._clock(), share, usual, candidate_id),
            ).rowcount
        if not changed:
            raise ConflictError(f"candidate {candidate_id!r} is not on trial, or on experiment already")

    def adopt(self, candidate_id: str, reason: str) -> int:
        """The candidate is served from now on; return the agent's generation. Call it once its file is written.

        Raises ``ConflictError`` when it is not on trial.
        """
        now = self._clock()
        with self._write() as db:
            agent = self._end(db, candidate_id, "adopted", reason, now, was="trial")
            (generation,) = db.execute(
                """
                INSERT INTO generations (agent, generation, since, candidate)
                VALUES (?1, 1 + (SELECT coalesce(max(generation), 0) FROM generations WHERE agent = ?1), ?2, ?3)
                RETURNING generation
                """,
                (agent, now, candidate_id),
            ).fetchone()
        return generation

    def reject(self, candidate_id: str, reason: str) -> None:
        """The candidate is never served. Raises ``ConflictError`` when it is not on trial."""
        with self._write() as db:
            self._end(db, candidate_id, "rejected", reason, self._clock(), was="trial")

    def retire(self, candidate_id: str, reason: str) -> None:
        """What was adopted is not served any more. Raises ``ConflictError`` when it was not adopted."""
        with self._write() as db:
            self._end(db, candidate_id, "retired", reason, self._clock(), was="adopted")

    def keep_recalls(self, recalls: Sequence[Recall]) -> None:
        """Keep which exchanges were given which skills; what is known stays as it is."""
        with self._write() as db:
            db.executemany(
                """
                INSERT INTO recalls (skill, exchange, agent, seq, recalled_at) VALUES (?, ?, ?, ?, ?)
                ON CONFLICT (skill, exchange) DO NOTHING
                """,
                [(one.skill, one.exchange, one.agent, one.seq, one.recalled_at) for one in recalls],
            )

    def _propose(self, db: sqlite3.Connection, new: NewCandidate, now: float) -> None:
        base = None if new.base is None else json.dumps(asdict(new.base))
        try:
            db.execute(
                """
                INSERT INTO candidates (id, agent, name, description, body, base, state, reason, why, author, exchanges,
                    turns, created_at, changed_at)
                VALUES (?, ?, ?, ?, ?, ?, 'trial', 'not tried yet', ?, ?, ?, ?, ?, ?)
                """,
                (new.id, new.agent, new.name, new.description, new.body, base, new.why, new.author,
                 json.dumps(new.exchanges), json.dumps(new.turns), now, now),
            )  # fmt: skip
        except sqlite3.IntegrityError as error:
            raise ConflictError(f"a candidate named {new.name!r} is on trial for {new.agent!r} already") from error

    def _end(
        self,
        db: sqlite3.Connection,
        candidate_id: str,
        state: Literal["adopted", "rejected", "retired"],
        reason: str,
        now: float,
        *,
        was: str,
    ) -> str:
        row = db.execute(
            "UPDATE candidates SET state = ?, reason = ?, changed_at = ? WHERE id = ? AND state = ? RETURNING agent",
            (state, reason, now, candidate_id, was),
        ).fetchone()
        if row is None:
            raise ConflictError(f"candidate {candidate_id!r} cannot become {state}: it is not {was}")
        return row["agent"]
