"""The one writer of ``learning.db``.

Owns the life of judgements, samples, updates and versions; refuses to know how any of them is computed. Invariant: an
update commits by its version's manifest. Whatever dies between two calls, no sample is in two versions, none is lost,
and what serves is a committed version.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from metaclaw.errors import ConflictError, NotFoundError, RewardsChangedError
from metaclaw.journal.database import open_writer, transaction
from metaclaw.journal.learning_records import (
    BASE_VERSION,
    Baseline,
    Canary,
    JsonObject,
    Judgement,
    NewVersion,
    Recovery,
    Sample,
    SkillSplit,
    Version,
)
from metaclaw.journal.lessons import TaughtTurn, write_lessons
from metaclaw.journal.opinions import SourceOpinion, write_opinions

Clock = Callable[[], float]

NO_REWARDS: Mapping[str, float] = {}
_SAMPLE = "SELECT turn, exchange, agent, version, reward, sampled_at, generation FROM samples"
# A person may have said something of it while an update had it.
_REWARD_NOW = "coalesce((SELECT score FROM judgements AS j WHERE j.exchange = samples.exchange), reward)"


class LearningJournal:
    """Every public method is one transaction; any thread may call it."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock = time.time) -> None:
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self._clock = clock
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, clock: Clock = time.time) -> LearningJournal:
        """Open ``learning.db``, creating and migrating it as needed; raises ``JournalError``."""
        return cls(open_writer(path, "learning"), clock)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> LearningJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def recover(self) -> Recovery:
        """Call once at start: updates that were running died with their process, so their samples are pending again."""
        with self._write() as db:
            samples = db.execute(
                f"""
                UPDATE samples SET state = 'pending', claimed_by = NULL, changed_at = ?, reward = {_REWARD_NOW}
                WHERE state = 'claimed' AND claimed_by IN (SELECT id FROM updates WHERE state = 'running')
                """,
                (self._clock(),),
            ).rowcount
            updates = db.execute(
                "UPDATE updates SET state = 'aborted', reason = ?, finished_at = ? WHERE state = 'running'",
                ("the learner ended during this update", self._clock()),
            ).rowcount
        return Recovery(updates=updates, samples=samples)

    # Judgements

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

    # Samples and updates

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
        """The agents that an update could be for."""
        with self._read() as db:
            rows = db.execute("SELECT DISTINCT agent FROM samples WHERE state = 'pending' ORDER BY agent").fetchall()
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

    def claim(self, agent: str, parent: int, turns: Sequence[str], *, rewards: Mapping[str, float] = NO_REWARDS) -> int:
        """Open an update from version ``parent`` on pending ``turns``; return its id.

        ``rewards`` are those that they were chosen by, as far as that matters. Raises ``ConflictError`` when one of the
        turns is not pending, and ``RewardsChangedError`` when one has another reward; both claim nothing.
        """
        with self._write() as db:
            update_id = db.execute(
                "INSERT INTO updates (agent, parent, state, started_at) VALUES (?, ?, 'running', ?)",
                (agent, parent, self._clock()),
            ).lastrowid
            assert update_id is not None
            claimed = db.execute(
                """
                UPDATE samples SET state = 'claimed', claimed_by = ?, changed_at = ?
                WHERE state = 'pending' AND agent = ? AND turn IN (SELECT value FROM json_each(?))
                """,
                (update_id, self._clock(), agent, json.dumps(list(turns))),
            ).rowcount
            if claimed != len(turns):
                raise ConflictError(f"{len(turns) - claimed} of {len(turns)} samples of {agent!r} are not pending")
            if rewards:
                found = db.execute("SELECT turn, reward FROM samples WHERE claimed_by = ?", (update_id,))
                changed = sum(rewards.get(turn, reward) != reward for turn, reward in found)
                if changed:
                    raise RewardsChangedError(f"{changed} of {len(turns)} samples of {agent!r} have another reward now")
        return update_id

    def commit(
        self,
        update_id: int,
        version: NewVersion,
        *,
        number: int,
        baseline: Baseline | None,
        metrics: Mapping[str, object],
        masked: Sequence[str] = (),
        lessons: Sequence[TaughtTurn] = (),
        canary_share: float = 0.0,
    ) -> Version:
        """Make the update's result version ``number`` and let it serve; its claimed samples are the manifest.

        ``lessons`` are what teachers said. With a ``canary_share`` it answers that share of new sessions, until it
        serves or is withdrawn.
        Those that were ``masked`` are not in it, as no token of them was trained on, and are given up.

        Raises ``ConflictError`` when the update is not running any more, when ``number`` is not the next one, or when
        another version than the update's parent serves by now: a rollback made meanwhile must not be undone.
        """
        now = self._clock()
        with self._write() as db:
            agent, parent = self._require_running(db, update_id)
            if number != self._next_version(db, agent):
                raise ConflictError(f"version {number} of {agent!r} is not the next one")
            if self._serving(db, agent) != parent:
                raise ConflictError(f"{agent!r} was set to another version while update {update_id} ran")
            db.execute(
                """
                INSERT INTO versions
                    (agent, version, parent, update_id, base_model, state_path, sampler_path, created_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                """,
                (agent, number, parent, update_id, version.base_model, version.state_path, version.sampler_path, now),
            )
            self._mask(db, update_id, masked)
            db.execute(
                "INSERT INTO manifests SELECT turn, agent, ? FROM samples WHERE claimed_by = ? AND state = 'claimed'",
                (number, update_id),
            )
            write_lessons(db, update_id, agent, lessons)
            self._finish(db, update_id, "committed", None, "consumed", metrics)
            if baseline is not None:
                self._set_baseline(db, agent, baseline)
            if canary_share:
                db.execute("INSERT INTO canaries VALUES (?, ?, ?, ?)", (agent, number, canary_share, now))
                self._note(db, agent, parent, f"version {number} is tried on {canary_share:.0%} of new sessions")
            else:
                self._serve(db, agent, number, f"update {update_id}")
            row = db.execute("SELECT * FROM versions WHERE update_id = ?", (update_id,)).fetchone()
        return Version(**dict(row))

    def reject(
        self,
        update_id: int,
        reason: str,
        *,
        baseline: Baseline,
        metrics: Mapping[str, object],
        masked: Sequence[str] = (),
        lessons: Sequence[TaughtTurn] = (),
    ) -> None:
        """The gate refused the update: its samples are spent, their rewards count, and what serves stays."""
        with self._write() as db:
            agent, _ = self._require_running(db, update_id)
            self._mask(db, update_id, masked)
            write_lessons(db, update_id, agent, lessons)
            self._finish(db, update_id, "rejected", reason, "rejected", metrics)
            self._set_baseline(db, agent, baseline)

    def abort(self, update_id: int, reason: str) -> None:
        """The update could not be finished: its samples are pending again."""
        with self._write() as db:
            self._require_running(db, update_id)
            self._finish(db, update_id, "aborted", reason, "pending", {})

    def rewards_of(self, update_id: int) -> list[float]:
        """The reward of each sample that an update has claimed or consumed."""
        with self._read() as db:
            rows = db.execute("SELECT reward FROM samples WHERE claimed_by = ?", (update_id,)).fetchall()
        return [row["reward"] for row in rows]

    def baseline(self, agent: str) -> Baseline | None:
        """The agent's reward baseline; ``None`` before its first update."""
        with self._read() as db:
            row = db.execute("SELECT value, num_rewards FROM baselines WHERE agent = ?", (agent,)).fetchone()
        return None if row is None else Baseline(**dict(row))

    # Versions

    def serving(self, agent: str) -> int:
        """The version that serves ``agent``; ``BASE_VERSION`` when nothing was trained or all was rolled back."""
        with self._read() as db:
            return self._serving(db, agent)

    def next_version(self, agent: str) -> int:
        """The number that the next committed version of ``agent`` gets."""
        with self._read() as db:
            return self._next_version(db, agent)

    def version(self, agent: str, number: int) -> Version:
        """One committed version; raises ``NotFoundError``."""
        with self._read() as db:
            row = db.execute("SELECT * FROM versions WHERE agent = ? AND version = ?", (agent, number)).fetchone()
        if row is None:
            raise NotFoundError(f"agent {agent!r} has no version {number}")
        return Version(**dict(row))

    def versions(self, agent: str) -> list[Version]:
        """All committed versions of ``agent``, oldest first."""
        with self._read() as db:
            rows = db.execute("SELECT * FROM versions WHERE agent = ? ORDER BY version", (agent,)).fetchall()
        return [Version(**dict(row)) for row in rows]

    def serve(self, agent: str, number: int, why: str) -> None:
        """Let another version serve; ``BASE_VERSION`` is always possible.

        Raises ``NotFoundError`` for one that never was, ``ConflictError`` for one whose weights were deleted.
        """
        if number != BASE_VERSION:
            self.version(agent, number)
        with self._write() as db:
            if number in self._deleted(db, agent):
                raise ConflictError(
                    f"the weights of version {number} of {agent!r} were deleted, as those of all old versions are: "
                    "choose a newer one, or 0 for the base model"
                )
            self._serve(db, agent, number, why)

    def canary(self, agent: str) -> Canary | None:
        """The version that is tried on a share of ``agent``'s sessions."""
        with self._read() as db:
            row = db.execute("SELECT * FROM canaries WHERE agent = ?", (agent,)).fetchone()
        return None if row is None else Canary(**dict(row))

    def canaries(self) -> list[Canary]:
        """Of all agents."""
        with self._read() as db:
            rows = db.execute("SELECT * FROM canaries ORDER BY agent").fetchall()
        return [Canary(**dict(row)) for row in rows]

    def end_canary(self, canary: Canary, why: str, *, serves: bool) -> None:
        """Let it serve all new sessions, or none. Raises ``ConflictError`` when it ended already."""
        with self._write() as db:
            query = "DELETE FROM canaries WHERE agent = ? AND version = ?"
            if not db.execute(query, (canary.agent, canary.version)).rowcount:
                raise ConflictError(f"version {canary.version} of {canary.agent!r} is not tried any more")
            if serves:
                self._serve(db, canary.agent, canary.version, why)
            else:
                self._note(db, canary.agent, self._serving(db, canary.agent), why)

    def retire(self, agent: str, *, keep: Collection[int]) -> list[Version]:
        """Mark all versions but ``keep`` and the one that serves as deleted; return those that were not before."""
        with self._write() as db:
            rows = db.execute(
                """
                UPDATE versions SET deleted_at = ?
                WHERE agent = ? AND deleted_at IS NULL AND version <> ?
                    AND version NOT IN (SELECT value FROM json_each(?))
                RETURNING *
                """,
                (self._clock(), agent, self._serving(db, agent), json.dumps(list(keep))),
            ).fetchall()
        return sorted((Version(**dict(row)) for row in rows), key=lambda version: version.version)

    # Inside a transaction

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

    def _require_running(self, db: sqlite3.Connection, update_id: int) -> tuple[str, int]:
        row = db.execute("SELECT agent, parent, state FROM updates WHERE id = ?", (update_id,)).fetchone()
        if row is None or row["state"] != "running":
            raise ConflictError(f"update {update_id} is {row['state'] if row else 'unknown'}, not running")
        return row["agent"], row["parent"]

    def _mask(self, db: sqlite3.Connection, update_id: int, turns: Sequence[str]) -> None:
        db.execute(
            """
            UPDATE samples SET state = 'expired', excluded_by = 'sampler_mismatch', claimed_by = NULL, changed_at = ?
            WHERE claimed_by = ? AND state = 'claimed' AND turn IN (SELECT value FROM json_each(?))
            """,
            (self._clock(), update_id, json.dumps(list(turns))),
        )

    def _finish(
        self,
        db: sqlite3.Connection,
        update_id: int,
        state: str,
        reason: str | None,
        sample_state: str,
        metrics: Mapping[str, object],
    ) -> None:
        now = self._clock()
        db.execute(
            f"""
            UPDATE samples SET state = ?1, changed_at = ?2,
                reward = CASE WHEN ?1 = 'pending' THEN {_REWARD_NOW} ELSE reward END,
                claimed_by = CASE WHEN ?1 = 'pending' THEN NULL ELSE claimed_by END
            WHERE claimed_by = ?3 AND state = 'claimed'
            """,
            (sample_state, now, update_id),
        )
        db.execute(
            "UPDATE updates SET state = ?, reason = ?, metrics = ?, finished_at = ? WHERE id = ?",
            (state, reason, json.dumps(metrics, allow_nan=False), now, update_id),
        )

    def _set_baseline(self, db: sqlite3.Connection, agent: str, baseline: Baseline) -> None:
        db.execute(
            "INSERT OR REPLACE INTO baselines (agent, value, num_rewards) VALUES (?, ?, ?)",
            (agent, baseline.value, baseline.num_rewards),
        )

    def _next_version(self, db: sqlite3.Connection, agent: str) -> int:
        row = db.execute("SELECT coalesce(max(version), 0) + 1 FROM versions WHERE agent = ?", (agent,)).fetchone()
        return row[0]

    def _serving(self, db: sqlite3.Connection, agent: str) -> int:
        row = db.execute("SELECT version FROM serving WHERE agent = ?", (agent,)).fetchone()
        return BASE_VERSION if row is None else row["version"]

    def _deleted(self, db: sqlite3.Connection, agent: str) -> set[int]:
        rows = db.execute("SELECT version FROM versions WHERE agent = ? AND deleted_at IS NOT NULL", (agent,))
        return {row["version"] for row in rows}

    def _serve(self, db: sqlite3.Connection, agent: str, number: int, why: str) -> None:
        now = self._clock()
        db.execute("INSERT OR REPLACE INTO serving (agent, version, since) VALUES (?, ?, ?)", (agent, number, now))
        db.execute("DELETE FROM canaries WHERE agent = ?", (agent,))  # whatever was tried was to follow another one
        self._note(db, agent, number, why)

    def _note(self, db: sqlite3.Connection, agent: str, number: int, why: str) -> None:
        db.execute(
            "INSERT INTO serving_history (agent, version, since, why) VALUES (?, ?, ?, ?)",
            (agent, number, self._clock(), why),
        )

    @contextmanager
    def _read(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            yield self._connection

    @contextmanager
    def _write(self) -> Generator[sqlite3.Connection]:
        with self._lock, transaction(self._connection):
            yield self._connection
