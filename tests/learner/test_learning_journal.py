"""The journal of learning: no sample in two versions, none lost, whatever dies when."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from metaclaw.errors import ConflictError, NotFoundError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Baseline, NewVersion, Sample

BASELINE = Baseline(value=0.25, num_rewards=4)


def sample(turn: str, *, exchange: str = "", version: int = 0, reward: float = 1.0, at: float = 0.0) -> Sample:
    return Sample(
        turn=turn, exchange=exchange or f"x-{turn}", agent="main", version=version, reward=reward, sampled_at=at
    )


def judge(journal: LearningJournal, *turns: str) -> None:
    for turn in turns:
        journal.record_verdict(
            exchange=f"x-{turn}", agent="main", judge="test", score=1.0, detail={}, samples=[sample(turn)]
        )


def commit(journal: LearningJournal, update_id: int, number: int = 1) -> int:
    new = NewVersion(
        base_model="tiny", state_path=f"tinker://m/weights/{number}", sampler_path=f"tinker://m/s/{number}"
    )
    return journal.commit(update_id, new, number=number, baseline=BASELINE, metrics={"kl": 0.1}).version


def rows(journal_path: Path, query: str) -> list[tuple]:
    connection = sqlite3.connect(journal_path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "learning.db"


def test_a_commit_writes_version_manifest_baseline_and_serving_together(path):
    with LearningJournal.open(path, clock=lambda: 5.0) as journal:
        judge(journal, "a", "b", "c")
        update_id = journal.claim("main", 0, ["a", "b"])
        assert commit(journal, update_id) == 1
        assert journal.serving("main") == 1
        assert journal.baseline("main") == BASELINE
        assert [one.turn for one in journal.pending("main")] == ["c"]
    assert rows(path, "SELECT turn, version FROM manifests") == [("a", 1), ("b", 1)]
    assert rows(path, "SELECT version, since, why FROM serving_history") == [(1, 5.0, "update 1")]


def test_a_second_claim_of_the_same_samples_claims_nothing(path):
    with LearningJournal.open(path) as journal:
        judge(journal, "a", "b")
        journal.claim("main", 0, ["a"])
        with pytest.raises(ConflictError):
            journal.claim("main", 0, ["a", "b"])
        assert [one.turn for one in journal.pending("main")] == ["b"]
    assert rows(path, "SELECT count(*) FROM updates") == [(1,)]


def test_an_aborted_update_gives_its_samples_back_and_can_never_commit(path):
    with LearningJournal.open(path) as journal:
        judge(journal, "a")
        update_id = journal.claim("main", 0, ["a"])
        journal.abort(update_id, "trainer down")
        assert [one.turn for one in journal.pending("main")] == ["a"]
        with pytest.raises(ConflictError):
            commit(journal, update_id)
        assert journal.serving("main") == 0


def test_a_rejected_update_spends_its_samples_and_counts_their_rewards_once(path):
    """PITFALLS R14: an update that the gate refuses is never served."""
    with LearningJournal.open(path) as journal:
        judge(journal, "a")
        journal.reject(journal.claim("main", 0, ["a"]), "KL", baseline=BASELINE, metrics={})
        assert journal.pending("main") == []
        assert journal.serving("main") == 0
        assert journal.baseline("main") == BASELINE
    assert rows(path, "SELECT state FROM samples") == [("rejected",)]


def test_an_update_does_not_commit_over_a_rollback(path):
    with LearningJournal.open(path) as journal:
        judge(journal, "a", "b")
        commit(journal, journal.claim("main", 0, ["a"]))
        update_id = journal.claim("main", 1, ["b"])
        journal.serve("main", 0, "rollback")
        with pytest.raises(ConflictError, match="another version"):
            commit(journal, update_id, number=2)
        assert journal.serving("main") == 0


def test_only_what_exists_can_serve(path):
    with LearningJournal.open(path) as journal, pytest.raises(NotFoundError):
        journal.serve("main", 3, "typo")


def test_a_failed_judgement_has_no_score_and_makes_no_sample(path):
    """PITFALLS R9: any failure of the judge was a reward of 0."""
    with LearningJournal.open(path) as journal:
        for attempts in (1, 2):
            failed = journal.record_failure(exchange="x-a", agent="main", judge="test", detail={"error": "down"})
            assert failed == attempts
        assert journal.judgements(["x-a", "unknown"])["x-a"].score is None
        assert journal.pending("main") == []
        judge(journal, "a")
        assert journal.judgements(["x-a"])["x-a"].attempts == 3
        with pytest.raises(ConflictError):
            journal.record_failure(exchange="x-a", agent="main", judge="test", detail={})


def test_a_score_that_json_cannot_say_leaves_no_trace(path):
    with LearningJournal.open(path) as journal:
        with pytest.raises(ValueError, match="JSON"):
            journal.record_verdict(
                exchange="x", agent="main", judge="t", score=1.0, detail={"x": float("nan")}, samples=[sample("a")]
            )
        assert journal.judgements(["x"]) == {}
        assert journal.pending("main") == []


def test_a_journal_of_the_first_schema_is_migrated_with_all_that_is_in_it(path):
    script = resources.files("metaclaw.journal").joinpath("migrations/learning_0001.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path)) as old:
        old.executescript(script)
        old.executescript("""
            INSERT INTO judgements VALUES ('x-a', 'main', 'failed', NULL, 'test', '{}', 4, 1.0);
            INSERT INTO updates (id, agent, parent, state, started_at) VALUES (1, 'main', 0, 'committed', 1.0);
            INSERT INTO versions VALUES ('main', 1, 0, 1, 'tiny', 'tinker://m/weights/1', 'tinker://m/s/1', 2.0);
            PRAGMA user_version = 1;
        """)
    with LearningJournal.open(path) as journal:
        judgement = journal.judgements(["x-a"])["x-a"]
        assert (judgement.attempts, judgement.outages) == (4, 0)
        (version,) = journal.versions("main")
        assert (version.state_path, version.deleted_at) == ("tinker://m/weights/1", None)


class LearningLife(RuleBasedStateMachine):
    """Random calls with a crash (reopening without closing) between any two of them.

    PITFALLS R2 and its table of faults: samples drained into a local list were lost, and trained twice after a retry.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "learning.db"
        self.journal = LearningJournal.open(self.path)
        self.added: set[str] = set()
        self.spent: set[str] = set()  # model: rejected or expired
        self.trained: dict[str, int] = {}  # model: turn -> version
        self.running: dict[int, tuple[int, tuple[str, ...]]] = {}
        self.serving = 0
        self.num_versions = 0

    def pending(self) -> list[str]:
        return [one.turn for one in self.journal.pending("main")]

    @rule(count=st.integers(1, 4))
    def add(self, count: int) -> None:
        turns = [f"t{len(self.added) + index}" for index in range(count)]
        judge(self.journal, *turns)
        self.added |= set(turns)

    @rule(share=st.floats(0.1, 1.0))
    def claim(self, share: float) -> None:
        pending = self.pending()
        turns = tuple(pending[: max(1, int(share * len(pending)))])
        if turns:
            self.running[self.journal.claim("main", self.serving, turns)] = (self.serving, turns)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        update_id = data.draw(st.sampled_from(sorted(self.running)))
        parent, turns = self.running[update_id]
        if parent != self.serving:
            with pytest.raises(ConflictError):
                commit(self.journal, update_id, self.num_versions + 1)
            return
        self.serving = commit(self.journal, update_id, self.num_versions + 1)
        self.num_versions += 1
        del self.running[update_id]
        self.trained |= dict.fromkeys(turns, self.serving)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), is_rejected=st.booleans())
    def give_up(self, data: st.DataObject, is_rejected: bool) -> None:
        update_id = data.draw(st.sampled_from(sorted(self.running)))
        _, turns = self.running.pop(update_id)
        if is_rejected:
            self.journal.reject(update_id, "gate", baseline=BASELINE, metrics={})
            self.spent |= set(turns)
        else:
            self.journal.abort(update_id, "trainer")

    @rule()
    def expire_oldest(self) -> None:
        oldest = self.pending()[:1]
        assert self.journal.expire(oldest, "too_old") == len(oldest)
        self.spent |= set(oldest)

    @precondition(lambda self: self.num_versions)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        self.serving = data.draw(st.integers(0, self.num_versions))
        self.journal.serve("main", self.serving, "test")

    @rule()
    def crash(self) -> None:
        # The process is gone: its connection with it, nothing was said good-bye to.
        self.journal.close()
        self.journal = LearningJournal.open(self.path)
        recovery = self.journal.recover()
        assert recovery.updates == len(self.running)
        assert recovery.samples == sum(len(turns) for _, turns in self.running.values())
        self.running.clear()

    @invariant()
    def every_sample_is_in_exactly_one_place(self) -> None:
        claimed = {turn for _, turns in self.running.values() for turn in turns}
        pending = set(self.pending())
        places = (pending, claimed, self.spent, set(self.trained))
        assert set().union(*places) == self.added
        assert sum(map(len, places)) == len(self.added)
        assert dict(rows(self.path, "SELECT turn, version FROM manifests")) == self.trained

    @invariant()
    def what_serves_was_committed(self) -> None:
        assert self.journal.serving("main") == self.serving
        committed = [version.version for version in self.journal.versions("main")]
        assert committed == list(range(1, self.num_versions + 1))

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()


LearningLife.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestLearningLife = LearningLife.TestCase
