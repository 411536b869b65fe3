"""Reading what is recorded of skills, for the learner, the gateway and the command line.

Owns the queries; refuses to write. Invariant: a file that is missing or not yet migrated holds nothing, and each method
fetches all it needs and returns.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from metaclaw.errors import JournalError
from metaclaw.journal.database import open_reader
from metaclaw.journal.skill_records import BaseSkill, Candidate, Comparison, Evolution, Experiment, Utility

_SCHEMA = 5  # the first with these columns
_UTILITY = """
    WITH mine AS (
        SELECT r.skill, min(r.recalled_at) AS first_at, max(r.recalled_at) AS last_at, count(*) AS num_recalled,
            count(j.score) AS num_with, sum(j.score) AS sum_with
        FROM recalls AS r LEFT JOIN judgements AS j ON j.exchange = r.exchange
        WHERE r.agent = :agent AND (:skill IS NULL OR r.skill = :skill) GROUP BY r.skill
    )
    SELECT mine.*, count(j.score) - num_with AS num_without, total(j.score) - coalesce(sum_with, 0.0) AS sum_without
    FROM mine LEFT JOIN judgements AS j
        ON j.agent = :agent AND j.state = 'judged' AND j.judged_at >= mine.first_at
    GROUP BY mine.skill ORDER BY mine.skill
"""


class SkillReader:
    """A view of ``learning.db`` on somebody's connection, ``None`` when there is none yet. One thread at a time."""

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        self._connection = connection
        if connection is not None:
            connection.row_factory = sqlite3.Row

    @classmethod
    def open(cls, path: Path) -> SkillReader:
        """Open ``learning.db`` read-only. Raises ``JournalError`` when it cannot be read."""
        if not path.exists():
            return cls(None)
        connection = open_reader(path)
        try:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            connection.close()
            raise JournalError(f"cannot read {path}: {error}") from error
        if schema < _SCHEMA:  # the learner brings it up to date when it starts
            connection.close()
            return cls(None)
        return cls(connection)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> SkillReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def candidates(
        self, *, agent: str | None = None, name: str | None = None, state: str | None = None
    ) -> list[Candidate]:
        """Candidates, oldest first."""
        rows = self._rows(
            """
            SELECT * FROM candidates WHERE (?1 IS NULL OR agent = ?1) AND (?2 IS NULL OR name = ?2)
                AND (?3 IS NULL OR state = ?3) ORDER BY created_at, id
            """,
            (agent, name, state),
        )
        return [_candidate(row) for row in rows]

    def candidate(self, candidate_id: str) -> Candidate | None:
        """One candidate."""
        rows = self._rows("SELECT * FROM candidates WHERE id = ?", (candidate_id,))
        return _candidate(rows[0]) if rows else None

    def comparisons(self, candidate_id: str) -> list[Comparison]:
        """What was compared for a candidate, in order."""
        rows = self._rows(
            """
            SELECT candidate, exchange, kind, fits, with_score, without_score, void, prompt_tokens, completion_tokens,
                cost_usd
            FROM comparisons WHERE candidate = ? ORDER BY created_at, exchange
            """,
            (candidate_id,),
        )
        return [_comparison(row) for row in rows]

    def is_evidence(self, exchanges: Sequence[str]) -> set[str]:
        """Those of ``exchanges`` that an evolver has seen."""
        rows = self._rows(
            "SELECT exchange FROM evidence WHERE exchange IN (SELECT value FROM json_each(?))",
            (json.dumps(list(exchanges)),),
        )
        return {row["exchange"] for row in rows}

    def bad_exchanges(self, *, below: float, since: float) -> list[tuple[str, str]]:
        """Agents and exchanges that were judged below a score and that no evolver has seen, oldest first."""
        rows = self._rows(
            """
            SELECT agent, exchange FROM judgements WHERE state = 'judged' AND score < ? AND judged_at >= ?
                AND exchange NOT IN (SELECT exchange FROM evidence) ORDER BY judged_at, exchange
            """,
            (below, since),
        )
        return [(row["agent"], row["exchange"]) for row in rows]

    def evolutions(self, agent: str | None = None, *, since: float = 0.0) -> list[tuple[float, Evolution]]:
        """When an evolver was asked (for ``agent``), and what came of it; newest first."""
        rows = self._rows(
            "SELECT * FROM evolutions WHERE (?1 IS NULL OR agent = ?1) AND created_at >= ?2 ORDER BY id DESC",
            (agent, since),
        )
        return [(row["created_at"], _evolution(row)) for row in rows]

    def generation(self, agent: str, at: float | None = None) -> int:
        """The generation of the agent's skills at a time; now without one. 0 before the first adoption."""
        rows = self._rows(
            "SELECT coalesce(max(generation), 0) AS n FROM generations"
            " WHERE agent = ?1 AND (?2 IS NULL OR since <= ?2)",
            (agent, at),
        )
        return rows[0]["n"] if rows else 0

    def utilities(self, agent: str, skill: str | None = None) -> list[Utility]:
        """How the agent's exchanges went with each skill and without it, by name."""
        return [_utility(agent, row) for row in self._rows(_UTILITY, {"agent": agent, "skill": skill})]

    def agents(self) -> list[str]:
        """The agents that candidates or recalls are known of."""
        rows = self._rows("SELECT agent FROM candidates UNION SELECT agent FROM recalls ORDER BY agent", ())
        return [row["agent"] for row in rows]

    def last_recall(self) -> int:
        """The number of the newest turn whose recalls are kept."""
        rows = self._rows("SELECT coalesce(max(seq), 0) AS n FROM recalls", ())
        return rows[0]["n"] if rows else 0

    def scores(self, exchanges: Sequence[str]) -> dict[str, float]:
        """The verdicts on those of ``exchanges`` that have one, in the order of judging."""
        rows = self._rows(
            "SELECT exchange, score FROM judgements WHERE score IS NOT NULL"
            " AND exchange IN (SELECT value FROM json_each(?)) ORDER BY judged_at, exchange",
            (json.dumps(list(exchanges)),),
        )
        return {row["exchange"]: row["score"] for row in rows}

    def scores_with(self, agent: str, skill: str, *, since: float) -> list[float]:
        """The rewards of the agent's exchanges that were given a skill since a time, in order."""
        rows = self._rows(
            """
            SELECT j.score FROM recalls AS r JOIN judgements AS j ON j.exchange = r.exchange
            WHERE r.agent = ? AND r.skill = ? AND r.recalled_at >= ? AND j.score IS NOT NULL ORDER BY r.seq
            """,
            (agent, skill, since),
        )
        return [row["score"] for row in rows]

    def mean_score(self, agent: str, before: float) -> float:
        """The mean reward of the agent's exchanges that were judged before a time; 0 when there is none."""
        rows = self._rows(
            "SELECT coalesce(avg(score), 0.0) AS mean FROM judgements"
            " WHERE agent = ? AND state = 'judged' AND judged_at < ?",
            (agent, before),
        )
        return rows[0]["mean"] if rows else 0.0

    def _rows(self, query: str, parameters: tuple[object, ...] | dict[str, object]) -> list[sqlite3.Row]:
        if self._connection is None:
            return []
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise JournalError(f"learning.db cannot be read: {error}") from error


def _candidate(row: sqlite3.Row) -> Candidate:
    fields: dict[str, Any] = dict(zip(row.keys(), row, strict=True))
    since, share, usual = (fields.pop(f"experiment_{name}") for name in ("since", "share", "usual"))
    fields["experiment"] = None if since is None else Experiment(since=since, share=share, usual=usual)
    fields["base"] = None if fields["base"] is None else BaseSkill(**json.loads(fields["base"]))
    fields["exchanges"] = tuple(json.loads(fields["exchanges"]))
    fields["turns"] = tuple(json.loads(fields["turns"]))
    return Candidate(**fields)


def _comparison(row: sqlite3.Row) -> Comparison:
    fields: dict[str, Any] = dict(zip(row.keys(), row, strict=True))
    fields["fits"] = bool(fields["fits"])
    return Comparison(**fields)


def _evolution(row: sqlite3.Row) -> Evolution:
    return Evolution(
        agent=row["agent"],
        author=row["author"],
        num_failures=row["num_failures"],
        refused=tuple(json.loads(row["refused"])),
        error=row["error"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cost_usd=row["cost_usd"],
    )


def _utility(agent: str, row: sqlite3.Row) -> Utility:
    num_with, num_without = row["num_with"], max(0, row["num_without"])
    return Utility(
        agent=agent,
        skill=row["skill"],
        num_recalled=row["num_recalled"],
        first_at=row["first_at"],
        last_at=row["last_at"],
        num_with=num_with,
        mean_with=row["sum_with"] / num_with if num_with else None,
        num_without=num_without,
        mean_without=row["sum_without"] / num_without if num_without else None,
    )
