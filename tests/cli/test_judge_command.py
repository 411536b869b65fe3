"""``metaclaw judge stats``, on a journal as the learner leaves it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from metaclaw.cli.day_spending import spent_lines, spent_today
from metaclaw.config import JudgeSettings, OpdSettings, RlSettings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.opinions import LateFeedback, OpinionBook, SourceOpinion
from metaclaw.journal.paid_calls import CallBook, PaidCall
from tests.cli.programs import metaclaw


def learned(home: Path) -> None:
    with LearningJournal.open(home / "learning.db") as journal:
        for number, (judged, said) in enumerate([(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (0.0, 1.0)]):
            votes = {"votes": [judged] * 3 if number else [1.0, -1.0], "invalid": [] if number else ["no score"]}
            opinions = [
                SourceOpinion(source="feedback", judge="feedback", score=said),
                SourceOpinion(source="llm", judge="llm:m", score=judged, detail=votes),
            ]
            journal.record_verdict(
                exchange=f"x{number}", agent="main", judge="feedback", score=said, detail={"source": "feedback"},
                samples=[], opinions=opinions,
            )  # fmt: skip
        journal.record_failure(exchange="y", agent="main", judge="j", detail={"error": "e", "cause": "judge_budget"})
        journal.record_failure(exchange="z", agent="other", judge="j", detail={"no_opinion": True})
    book = CallBook.open(home / "learning.db")
    book.record(PaidCall(purpose="judging", agent="main", tokens=1000, cost_usd=0.5))
    book.record(PaidCall(purpose="comparing", agent="main", tokens=70, is_estimate=True))
    book.close()
    book = OpinionBook.open(home / "learning.db")
    book.revise(LateFeedback(feedback=1, exchange="x0", agent="main", score=-0.5, decides=True))
    book.close()


def test_stats_say_how_far_the_judge_can_be_trusted_and_what_it_took(tmp_path: Path):
    learned(tmp_path)

    told = json.loads(metaclaw(tmp_path, "judge", "stats", "--json", "--agent", "main").stdout)
    said = metaclaw(tmp_path, "judge", "stats").stdout

    (main,) = told["agents"]
    found = main["agreement_with_feedback"]["llm"]
    assert (found["num_pairs"], found["agreement"]) == (4, 0.25)
    assert found["table"] == [[1, 0, 2], [0, 0, 0], [0, 1, 0]]
    assert found["kappa"] is None, "of four"
    assert main["unjudged"] == {"judge_budget": 1}
    assert main["votes"] == {"num_exchanges": 4, "unanimous": 0.75, "invalid": 1 / 12}
    assert main["late_feedback"]["num_feedback"] == 1
    assert main["spent"]["exchange"]["cost_usd"] == 0.5
    assert main["spent"]["pair"]["num_unknown_costs"] == 1
    assert "llm agrees with persons on 25% of 4" in said
    assert "other: judged: none\n  unjudged: 1 no_opinion" in said


def test_status_says_what_judging_took_today_and_when_it_is_at_its_cap(tmp_path: Path):
    assert spent_lines(spent_today(RlSettings(), tmp_path / "learning.db")) == []
    learned(tmp_path)
    lines = spent_lines(spent_today(RlSettings(), tmp_path / "learning.db"))
    assert lines == ["judging: 1,000 of 5,000,000 tokens in 24 hours, 0.50 of 5.00 USD"]
    capped = RlSettings(judge=JudgeSettings(max_usd_per_day=0.5))
    (over,) = spent_lines(spent_today(capped, tmp_path / "learning.db"))
    assert "AT ITS CAP" in over


def test_status_says_what_a_teacher_took_today_too(tmp_path: Path):
    book = CallBook.open(tmp_path / "learning.db")
    book.record(PaidCall(purpose="teaching", agent="main", model="big", tokens=900, is_estimate=True))
    book.close()
    assert spent_lines(spent_today(RlSettings(), tmp_path / "learning.db")) == [
        "teaching: 900 of 5,000,000 tokens in 24 hours, cost unknown"
    ]
    capped = RlSettings(opd=OpdSettings(max_tokens_per_day=900))
    (over,) = spent_lines(spent_today(capped, tmp_path / "learning.db"))
    assert "AT ITS CAP: what is to be taught waits" in over


def test_since_leaves_out_what_was_before(tmp_path: Path):
    learned(tmp_path)
    tomorrow = time.strftime("%Y-%m-%d", time.localtime(time.time() + 86_400))
    told = json.loads(metaclaw(tmp_path, "judge", "stats", "--json", "--since", tomorrow).stdout)
    assert all(not one["agreement_with_feedback"] and not one["judged"] for one in told["agents"])


def test_before_anything_was_judged_there_is_nothing_to_tell(tmp_path: Path):
    assert metaclaw(tmp_path, "judge", "stats").stdout == "nothing was judged yet\n"
