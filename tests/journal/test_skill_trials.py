"""The life of what a model proposes, as the learner writes it down."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from metaclaw.errors import ConflictError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Sample
from metaclaw.journal.requests import RequestStore
from metaclaw.journal.skill_reader import SkillReader
from metaclaw.journal.skill_records import BaseSkill, Comparison, Evolution, NewCandidate
from metaclaw.journal.skill_trials import Recall, SkillTrials

NEW = NewCandidate(
    id="c1", agent="main", name="check-units", description="Use when numbers have units.", body="Write the units down.",
    base=None, why="units were mixed", author="big", exchanges=("x1", "x2"), turns=("t1", "t2", "t3"),
)  # fmt: skip
RUN = Evolution(agent="main", author="big", num_failures=2, prompt_tokens=900, completion_tokens=80, cost_usd=0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "learning.db"


def test_a_candidate_lives_from_its_proposal_to_its_end(path):
    edit = replace(NEW, id="c2", name="careful", base=BaseSkill(description="d", body="old"))
    with SkillTrials.open(path, clock=lambda: 5.0) as trials:
        trials.record_evolution(RUN, [NEW, edit], seen=["x1", "x2"])
        with trials.reading() as reader:
            first, second = reader.candidates(state="trial")
            assert (first.name, first.turns, first.base, first.created_at) == ("check-units", NEW.turns, None, 5.0)
            assert second.base == edit.base
            assert reader.is_evidence(["x1", "x9"]) == {"x1"}
            assert reader.evolutions("main") == [(5.0, RUN)]
        trials.begin_experiment("c1", share=0.5, usual=0.25)
        assert trials.adopt("c1", "it helps") == 1
        trials.reject("c2", "it harms")
        trials.retire("c1", "never used")
    with SkillReader.open(path) as reader:
        assert {one.id: one.state for one in reader.candidates()} == {"c1": "retired", "c2": "rejected"}
        found = reader.candidate("c1")
        assert found is not None
        assert found.experiment is not None
        assert found.experiment.usual == 0.25
        assert reader.candidates(agent="other") == []
        assert reader.generation("main") == 1
        assert reader.generation("other") == 0


@pytest.mark.parametrize("end", ["adopt", "reject"])
def test_a_trial_ends_once(path, end):
    with SkillTrials.open(path) as trials:
        trials.record_evolution(RUN, [NEW])
        getattr(trials, end)("c1", "first")
        for again in (trials.adopt, trials.reject):
            with pytest.raises(ConflictError):
                again("c1", "second")
        with trials.reading() as reader:
            assert reader.generation("main") == (1 if end == "adopt" else 0)


def test_two_candidates_of_one_name_are_never_on_trial_at_once(path):
    with SkillTrials.open(path) as trials:
        trials.record_evolution(RUN, [NEW])
        with pytest.raises(ConflictError, match="on trial"):
            trials.record_evolution(RUN, [replace(NEW, id="c2")], seen=["x9"])
        trials.record_evolution(RUN, [replace(NEW, id="c3", agent="other")])
        trials.reject("c1", "no")
        trials.record_evolution(RUN, [replace(NEW, id="c4")])
        with trials.reading() as reader:
            assert reader.is_evidence(["x9"]) == set()  # all of a run or nothing
            assert [one.id for one in reader.candidates(state="trial")] == ["c3", "c4"]


def test_an_exchange_is_compared_once(path):
    first = Comparison(candidate="c1", exchange="x", kind="replay", fits=True, with_score=1.0, without_score=-1.0)
    with SkillTrials.open(path) as trials:
        trials.record_evolution(RUN, [NEW])
        trials.compare(first)
        trials.compare(replace(first, with_score=-1.0))
        trials.compare(Comparison(candidate="c1", exchange="y", kind="replay", fits=False, void="a tool was called"))
        with trials.reading() as reader:
            assert [(one.exchange, one.with_score, one.void) for one in reader.comparisons("c1")] == [
                ("x", 1.0, None),
                ("y", None, "a tool was called"),
            ]


def test_a_sample_has_the_generation_of_the_time_when_its_turn_was_opened(path):
    """PITFALLS R7: the generation never reached the trainer, and was lost at a restart."""
    now = [10.0]
    with SkillTrials.open(path, clock=lambda: now[0]) as trials, LearningJournal.open(path) as journal:
        trials.record_evolution(RUN, [NEW, replace(NEW, id="c2", name="b")])
        trials.adopt("c1", "it helps")
        now[0] = 20.0
        trials.adopt("c2", "it helps")
        samples = [
            Sample(turn=f"t{at}", exchange="x", agent="main", version=0, reward=1.0, sampled_at=at)
            for at in (9.0, 10.0, 19.0, 21.0)
        ]
        journal.record_verdict(exchange="x", agent="main", judge="j", score=1.0, detail={}, samples=samples)
        assert [sample.generation for sample in journal.pending("main")] == [0, 1, 1, 2]
    with SkillReader.open(path) as reader:
        assert [reader.generation("main", at) for at in (9.0, 10.0, 25.0)] == [0, 1, 2]


def test_utility_is_counted_from_what_was_recalled_and_judged(path):
    with SkillTrials.open(path) as trials, LearningJournal.open(path, clock=lambda: 50.0) as journal:
        recalled = (("a", "x1", 1, 1.0), ("a", "x2", 2, 2.0), ("a", "x9", 9, 9.0), ("b", "x2", 2, 2.0))
        trials.keep_recalls(
            [
                Recall(skill=skill, exchange=exchange, agent="main", seq=seq, recalled_at=at)
                for skill, exchange, seq, at in recalled
            ]
        )
        for exchange, score in (("x1", 1.0), ("x2", 0.0), ("x3", -1.0), ("x4", 0.0)):
            journal.record_verdict(exchange=exchange, agent="main", judge="j", score=score, detail={}, samples=[])
        journal.record_failure(exchange="x9", agent="main", judge="j", detail={})
        journal.record_verdict(exchange="o", agent="other", judge="j", score=-1.0, detail={}, samples=[])
        with trials.reading() as reader:
            used, other = reader.utilities("main")
            assert (used.skill, used.num_recalled, used.num_with, used.mean_with) == ("a", 3, 2, 0.5)
            assert (used.num_without, used.mean_without, used.last_at) == (2, -0.5, 9.0)
            assert (other.num_with, other.mean_with, other.num_without) == (1, 0.0, 3)
            assert reader.utilities("main", "b") == [other]
            assert reader.last_recall() == 9
            assert reader.mean_score("main", 51.0) == 0.0
            assert reader.mean_score("other", 51.0) == -1.0


def test_what_was_recalled_and_never_judged_has_no_mean(path):
    with SkillTrials.open(path) as trials:
        trials.keep_recalls([Recall(skill="a", exchange="x", agent="main", seq=1, recalled_at=1.0)] * 2)
        with trials.reading() as reader:
            (used,) = reader.utilities("main")
            assert (used.num_recalled, used.mean_with, used.mean_without) == (1, None, None)


def test_before_the_first_start_there_is_nothing_to_read(path):
    for _ in range(2):
        with SkillReader.open(path) as reader:
            assert reader.candidates() == reader.agents() == reader.utilities("main") == []
            assert reader.generation("main") == reader.last_recall() == 0
        script = resources.files("metaclaw.journal").joinpath("migrations/learning_0001.sql").read_text()
        with closing(sqlite3.connect(path)) as old:
            old.executescript(
                script.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ").replace(
                    "CREATE INDEX ", "CREATE INDEX IF NOT EXISTS "
                )
            )
            old.execute("PRAGMA user_version = 1")


def test_a_request_waits_until_it_is_answered_once(tmp_path):
    asking, answering = (RequestStore.open(tmp_path / "requests.db") for _ in range(2))
    with closing(asking), closing(answering):
        number = asking.ask("adopt", agent="main", subject="check-units", now=1.0)
        (waiting,) = answering.waiting()
        assert (waiting.id, waiting.kind, waiting.subject, waiting.outcome) == (number, "adopt", "check-units", None)
        answering.answer(number, "adopted", 2.0)
        answering.answer(number, "again", 3.0)
        assert answering.waiting() == []
        answered = asking.request(number)
        assert answered is not None
        assert (answered.outcome, answered.done_at) == ("adopted", 2.0)
        assert asking.request(99) is None
