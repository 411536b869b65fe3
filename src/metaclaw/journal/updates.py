"""Updates: what they claim, and what becomes of that.

Owns the tables ``updates``, ``manifests`` and ``baselines`` of ``learning.db``, and its samples while an update has
them; refuses to know how one is made. Invariant: an update commits by its version's manifest. Whatever dies between two
calls, no sample is in two versions, none is lost, and what serves is a committed version.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from metaclaw.errors import ConflictError, RewardsChangedError
from metaclaw.journal import saved_weights, versions
from metaclaw.journal.learning_connection import LearningConnection
from metaclaw.journal.learning_records import Baseline, NewVersion, Recovery, Version
from metaclaw.journal.lessons import TaughtTurn, write_lessons

NO_REWARDS: Mapping[str, float] = {}
# A person may have said something of it while an update had it.
_REWARD_NOW = "coalesce((SELECT score FROM judgements AS j WHERE j.exchange = samples.exchange), reward)"


class Updates(LearningConnection):
    """Each is claimed, and then committed, rejected or aborted once."""

    def recover(self) -> Recovery:
        """Call once at start: updates that were running died with their process.

        So their samples are pending again, and what they saved is nobody's.
        """
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
            weights = saved_weights.disown(db, self._clock())
        return Recovery(updates=updates, samples=samples, weights=weights)

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

        Raises ``ConflictError`` when the update is not running any more, when ``number`` is not the next one, when
        another version than the update's parent serves by now (a rollback made meanwhile must not be undone), or when
        the agent was pinned meanwhile: whoever did was told that it stays with what serves.
        """
        now = self._clock()
        with self._write() as db:
            agent, parent = self._require_running(db, update_id)
            if versions.serving(db, agent) != parent:
                raise ConflictError(f"{agent!r} was set to another version while update {update_id} ran")
            if db.execute("SELECT 1 FROM holds WHERE agent = ? AND kind = 'pin'", (agent,)).fetchone():
                raise ConflictError(f"{agent!r} was pinned while update {update_id} ran")
            made = versions.add_version(db, agent, number, update_id, parent, version, now)
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
                versions.try_version(db, agent, number, canary_share, now)
            else:
                versions.serve(db, agent, number, f"update {update_id}", now)
        return made

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
