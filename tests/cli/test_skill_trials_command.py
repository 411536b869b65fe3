"""``metaclaw skills why|trial|adopt|retire|rollback``, as a person or a script uses them."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.requests import RequestStore
from metaclaw.journal.skill_records import Comparison, Evolution, NewCandidate
from metaclaw.journal.skill_trials import Recall, SkillTrials
from metaclaw.learner.deciding import NOT_DONE
from metaclaw.processes.instance import held_pid_file
from tests.cli.programs import METACLAW, environment, metaclaw, until

TEA = "---\nname: tea\ndescription: Use for tea.\n---\nGreen: 80 degrees.\n"


def skills(home: Path, *arguments: str) -> Any:
    done = metaclaw(home, "skills", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    new = NewCandidate(
        id="c1", agent="main", name="check-units", description="Use when numbers have units.", body="Write them down.",
        base=None, why="units were mixed", author="big", exchanges=("x1",), turns=("t1", "t2"),
    )  # fmt: skip
    with (
        SkillTrials.open(tmp_path / "learning.db") as trials,
        LearningJournal.open(tmp_path / "learning.db") as journal,
    ):
        asked = Evolution(
            agent="main", author="big", num_failures=1, refused=("tea: it says what coffee says",), prompt_tokens=900,
            completion_tokens=100, cost_usd=0.5,
        )  # fmt: skip
        trials.record_evolution(asked, [new])
        trials.record_evolution(Evolution(agent="main", author="big", num_failures=1))
        for number in range(3):
            trials.compare(
                Comparison(candidate="c1", exchange=f"r{number}", kind="replay", fits=True, with_score=1.0,
                           without_score=-1.0, prompt_tokens=1000, completion_tokens=10)
            )  # fmt: skip
        trials.compare(Comparison(candidate="c1", exchange="e", kind="experiment", fits=True, with_score=1.0))
        trials.keep_recalls([Recall(skill="tea", exchange="x1", agent="main", seq=1, recalled_at=time.time())])
        journal.record_verdict(exchange="x1", agent="main", judge="j", score=0.5, detail={}, samples=[])
    folder = tmp_path / "skills" / "main" / "tea"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(TEA)
    return tmp_path


def test_why_shows_the_trial_its_turns_and_the_utility(home: Path):
    found = skills(home, "why", "check-units")
    (candidate,) = found["candidates"]
    assert (candidate["state"], candidate["turns"], candidate["comparisons"]) == ("trial", ["t1", "t2"], 4)
    assert "not decided yet: +1.00 over 3 comparisons" in candidate["verdict"]
    assert found["served"] is None
    found = skills(home, "why", "tea")
    assert found["served"] == {"owner": "main", "by": "human", "retired": False}
    assert (found["utility"]["num_recalled"], found["utility"]["mean_with"]) == (1, 0.5)
    assert "recalled 1 time" in metaclaw(home, "skills", "list", "--agent", "main").stdout
    done = metaclaw(home, "skills", "why", "nothing")
    assert done.returncode == 1
    assert "nothing is known" in done.stderr
    assert [one["name"] for one in skills(home, "trial")] == ["check-units"]


def test_what_evolving_and_trials_cost_is_shown_and_unknown_is_not_nothing(home: Path):
    shown = metaclaw(home, "skills", "why", "check-units").stdout
    assert "its trial took 3 replays, 3,000 + 30 tokens, cost unknown (judging not counted)" in shown
    log = metaclaw(home, "skills", "log").stdout
    assert "big was asked about 1 failure (900 + 100 tokens, 0.5000 USD)\trefused tea: it says what coffee says" in log
    assert "(0 + 0 tokens and an unknown number of 1 more time, cost unknown)" in log
    assert [one["cost_usd"] for one in skills(home, "log")] == [0.5, None]
    status = metaclaw(home, "status")
    assert "0.5000 USD and an unknown cost of 1 more time, tried for 3,000 + 30 tokens" in status.stdout
    told = json.loads(metaclaw(home, "status", "--json").stdout)["skills"]
    assert told["evolving"] == {
        "num_asked": 2, "prompt_tokens": 900, "completion_tokens": 100, "cost_usd": 0.5, "num_unknown_tokens": 1,
        "num_unknown_costs": 1,
    }  # fmt: skip
    assert told["trials"]["num_unknown_costs"] == 3


def test_what_the_learner_owns_is_asked_of_it_and_waits(home: Path):
    asked = skills(home, "adopt", "check-units", "--wait", "3600")  # nothing runs, so nobody is waited for
    assert asked["done"] is False
    assert "when it runs" in asked["outcome"]
    with closing(RequestStore.open(home / "requests.db")) as store:
        (waiting,) = store.waiting()
        assert (waiting.kind, waiting.agent, waiting.subject) == ("adopt", "main", "check-units")


def test_what_the_learner_cannot_do_is_an_error(home: Path):
    with held_pid_file(home), closing(RequestStore.open(home / "requests.db")) as store:
        asked = Popen([*METACLAW, "skills", "adopt", "nothing"], env=environment(home), stderr=PIPE, text=True)
        until(store.waiting)
        store.answer(store.waiting()[0].id, f"{NOT_DONE}main has no skill 'nothing' on trial", 1.0)
        assert "main has no skill 'nothing' on trial" in asked.communicate(timeout=60)[1]
    assert asked.returncode == 1


def test_a_skill_that_is_not_here_is_not_called_retired(home: Path):
    done = metaclaw(home, "skills", "retire", "teaa")
    assert done.returncode == 1
    assert "there is no skill 'teaa'" in done.stderr
    assert not (home / "skills" / ".retired").exists()
    assert skills(home, "retire", "check-units")["done"] is True  # on trial: no folder yet


def test_a_skill_can_be_retired_though_the_learners_database_cannot_be_read(home: Path):
    (home / "learning.db").write_bytes(b"no database" * 100)
    assert skills(home, "retire", "tea")["done"] is True
    assert (home / "skills" / ".retired").exists()


def test_retiring_counts_at_once_and_rollback_brings_back(home: Path):
    assert skills(home, "retire", "tea")["done"] is True
    assert skills(home, "why", "tea")["served"]["retired"] is True
    assert (home / "skills" / "main" / "tea" / "SKILL.md").read_text() == TEA
    assert "not retired" in skills(home, "rollback", "tea")["outcome"]
    assert skills(home, "why", "tea")["served"]["retired"] is False
    (home / "new.md").write_text(TEA.replace("80", "90"))
    skills(home, "add", str(home / "new.md"), "--agent", "main", "--force")
    assert skills(home, "rollback", "tea")["restores"] == 1
    assert "80 degrees" in (home / "skills" / "main" / "tea" / "SKILL.md").read_text()


def test_everybodys_skill_is_retired_for_all_and_brought_back(home: Path):
    skills(home, "retire", "git-commit-messages", "--everybody")
    assert skills(home, "why", "git-commit-messages")["served"]["retired"] is True
    skills(home, "rollback", "git-commit-messages", "--everybody")
    assert skills(home, "why", "git-commit-messages")["served"]["retired"] is False
