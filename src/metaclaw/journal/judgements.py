"""Verdicts, and the samples that they make trainable.

Owns the table ``judgements`` of ``learning.db``, and its samples until an update claims them; refuses to know who
judges, and what updates do. Invariant: an exchange has one verdict, a turn one sample; a judge that failed leaves no
score, and what is given up names its rule.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from metaclaw.errors import ConflictError
from metaclaw.journal.learning_connection import LearningConnection
from metaclaw.journal.learning_records import JsonObject, Judgement, Sample, SkillSplit
from metaclaw.journal.opinions import SourceOpinion, write_opinions

_SAMPLE = "SELECT turn, exchange, agent, version, reward, sampled_at, generation FROM samples"


class Judgements(LearningConnection):
    """What was judged, and what waits for an update."""

    def judgements(self, exchanges: Sequence[str]) -> dict[str, Judgement]:
        """The judgements that exist of ``exchanges``, by exchange."""
        with self._read() as db:
            rows = db.execute(
                "SELECT * FROM judgements WHERE exchange IN (SELECT value FROM json_each(?))",
                (json.dumps(list(exchanges)),),
            ).fetchall()
        return {row["exchange"]: Judgement(**{**dict(row), "detail": json.loads(row["detail"])}) for row in rows}

    def record_verdict(
        self,
        *,
        exchange: str,
        agent: str,
        judge: str,
        score: float,
        detail: JsonObject,
        samples: Sequence[Sample],
        opinions: Sequence[SourceOpinion] = (),
    ) -> None:
        """Record a score, the samples that it makes trainable, and what each source said.

        A turn that is known already keeps its state.
        """
        with self._write() as db:
            self._judge(db, exchange, agent, "judged", score, judge, detail)
            write_opinions(db, exchange, agent, opinions, self._clock())
            db.executemany(
                """
                INSERT INTO samples (turn, exchange, agent, version, reward, state, sampled_at, changed_at, generation)
                VALUES (?1, ?2, ?3, ?4, ?5, 'pending', ?6, ?7, (
                    SELECT coalesce(max(generation), 0) FROM generations WHERE agent = ?3 AND since <= ?6
                )) ON CONFLICT (turn) DO NOTHING
                """,
                [(s.turn, s.exchange, s.agent, s.version, s.reward, s.sampled_at, self._clock()) for s in samples],
            )

    def record_failure(
        self, *, exchange: str, agent: str, judge: str, detail: JsonObject, is_outage: bool = False
    ) -> int:
        """Record that a judge failed: no score, and so no sample. Return the number of attempts so far."""
        with self._write() as db:
            attempts = self._judge(db, exchange, agent, "failed", None, judge, detail)
            if is_outage:
                db.execute("UPDATE judgements SET outages = outages + 1 WHERE exchange = ?", (exchange,))
        return attempts

    def pending(self, agent: str) -> list[Sample]:
        """The samples of ``agent`` that wait for an update, oldest first."""
        with self._read() as db:
            rows = db.execute(
                f"{_SAMPLE} WHERE agent = ? AND state = 'pending' ORDER BY sampled_at, turn", (agent,)
            ).fetchall()
        return [Sample(**dict(row)) for row in rows]

    def with_samples(self, exchanges: Sequence[str]) -> set[str]:
        """Those of ``exchanges`` that some sample is of, whatever became of it."""
        with self._read() as db:
            rows = db.execute(
                "SELECT DISTINCT exchange FROM samples WHERE exchange IN (SELECT value FROM json_each(?))",
                (json.dumps(list(exchanges)),),
            ).fetchall()
        return {row["exchange"] for row in rows}

    def agents_with_pending(self) -> list[str]:
        """The agents that an update could be for; those too whose samples an update has that could not be ended."""
        with self._read() as db:
            rows = db.execute(
                "SELECT DISTINCT agent FROM samples WHERE state IN ('pending', 'claimed') ORDER BY agent"
            ).fetchall()
        return [row["agent"] for row in rows]

    def expire(self, turns: Sequence[str], rule: str) -> int:
        """Give up pending samples that a rule excludes; return how many they were."""
        with self._write() as db:
            return db.execute(
                """
                UPDATE samples SET state = 'expired', changed_at = ?, excluded_by = ?
                WHERE state = 'pending' AND turn IN (SELECT value FROM json_each(?))
                """,
                (self._clock(), rule, json.dumps(list(turns))),
            ).rowcount

    def expired(self, agent: str) -> dict[str, int]:
        """How many samples each rule gave up since the last update that was committed or rejected had its samples."""
        with self._read() as db:
            rows = db.execute(
                """
                SELECT excluded_by, count(*) AS n FROM samples
                WHERE agent = ?1 AND state = 'expired' AND excluded_by IS NOT NULL AND changed_at > (
                    SELECT coalesce(max(started_at), 0) FROM updates
                    WHERE agent = ?1 AND state IN ('committed', 'rejected')
                ) GROUP BY excluded_by ORDER BY excluded_by
                """,
                (agent,),
            ).fetchall()
        return {row["excluded_by"]: row["n"] for row in rows}

    def skill_split(self, agent: str) -> SkillSplit:
        """What keeps samples of ``agent`` apart from the skills that are in force now."""
        with self._read() as db:
            (generation,) = db.execute(
                "SELECT coalesce(max(generation), 0) FROM generations WHERE agent = ?", (agent,)
            ).fetchone()
            rows = db.execute(
                "SELECT DISTINCT value FROM candidates, json_each(turns) WHERE agent = ? AND state = 'adopted'",
                (agent,),
            ).fetchall()
        return SkillSplit(generation=generation, support=frozenset(row["value"] for row in rows))

    def _judge(
        self,
        db: sqlite3.Connection,
        exchange: str,
        agent: str,
        state: str,
        score: float | None,
        judge: str,
        detail: JsonObject,
    ) -> int:
        row = db.execute(
            """
            INSERT INTO judgements (exchange, agent, state, score, judge, detail, judged_at)
            VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (exchange) DO UPDATE SET state = excluded.state, score = excluded.score, judge = excluded.judge,
                detail = excluded.detail, judged_at = excluded.judged_at, attempts = attempts + 1
            WHERE state = 'failed'
            RETURNING attempts
            """,
            (exchange, agent, state, score, judge, json.dumps(detail, allow_nan=False), self._clock()),
        ).fetchone()
        if row is None:
            raise ConflictError(f"exchange {exchange!r} has a verdict already")
        return row["attempts"]
