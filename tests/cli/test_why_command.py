"""``metaclaw why``, on journals as a gateway and a learner leave them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from metaclaw.journal.feedback import NewFeedback
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Baseline, NewVersion, Sample
from metaclaw.journal.lessons import TaughtTurn
from metaclaw.journal.skill_records import Evolution, NewCandidate
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.journal.turns import TurnJournal, Weighed
from tests.cli.programs import metaclaw
from tests.journal.test_turns import SAMPLE, done, new_turn, user

EXCHANGE = "ex-0123-first"
WEIGHED = (
    Weighed(kind="skill", item="git-commit", score=3.25, outcome="recalled"),
    Weighed(kind="memory", item="m-1", score=0.75, outcome="recalled"),
    Weighed(kind="memory", item="m-2", score=0.25, outcome="threshold"),
)


async def record(home: Path) -> None:
    names = ("git-commit", "memory:m-1")
    async with TurnJournal(home / "turns.db") as journal:
        first = new_turn("t1", user("x"), exchange=EXCHANGE, recalled=names, weighed=WEIGHED)
        await journal.open_turn(first)
        await journal.close_turn("t1", done(sample=SAMPLE))
        await journal.open_turn(new_turn("t2", user("x"), exchange="ex-0123-again", recalled=names, upstream="openai"))
        await journal.close_turn("t2", done(upstream="openai"))
        given = NewFeedback(
            turn="t1", agent="main", session="s", only_agent=None, score=-1.0, text="too long", source="ann",
            created_at=3.0,
        )  # fmt: skip
        await journal.add_feedback(given)
    adopted = NewCandidate(
        id="c1", agent="main", name="brevity", description="d", body="b", base=None, why="w", author="big",
        exchanges=(), turns=("t1",),
    )  # fmt: skip
    with SkillTrials.open(home / "learning.db", clock=lambda: 1e12) as trials:
        trials.record_evolution(Evolution(agent="main", author="big", num_failures=1), [adopted])
        trials.adopt("c1", "it helps")
    sample = Sample(turn="t1", exchange=EXCHANGE, agent="main", version=3, reward=0.5, sampled_at=1.0)
    with LearningJournal.open(home / "learning.db") as learning:
        learning.record_verdict(
            exchange=EXCHANGE, agent="main", judge="verifier", score=0.5, detail={"votes": 1}, samples=[sample]
        )
        learning.expire(["t1"], "skill_support")


def test_it_says_what_was_recalled_and_left_out_who_answered_and_how_it_was_judged(tmp_path: Path) -> None:
    asyncio.run(record(tmp_path))
    said = metaclaw(tmp_path, "why", "t1")
    assert said.returncode == 0, said.stderr
    for words in (
        "recalled skill git-commit, score 3.25",
        "recalled memory m-1, score 0.75",
        "left out memory m-2, score 0.25: does not fit well enough",
        "policy version 3",
        "sample: expired (skill_support)",
        "generation of the agent's skills: 0 (it is 1 now)",
        "reward +0.50",
        'judged +0.50 by verifier: {"votes": 1}',
        "feedback of ann: -1 too long",
    ):
        assert words in said.stdout, words
    told = json.loads(metaclaw(tmp_path, "why", "t1", "--json").stdout)
    assert told["weighed_in"] == "t1"
    assert [(one["item"], one["outcome"]) for one in told["weighed"]][-1] == ("m-2", "threshold")
    assert (told["policy"]["version"], told["verdict"]["score"], told["turn"]["id"]) == (3, 0.5, "t1")
    assert (told["generation"], told["generation_now"]) == (0, 1)
    exported = metaclaw(tmp_path, "journal", "export").stdout.splitlines()
    assert [json.loads(line)["generation"] for line in exported] == [0, 0]


def test_it_says_which_teacher_spoke_about_the_turn_and_what_that_moved(tmp_path: Path) -> None:
    asyncio.run(record(tmp_path))
    assert json.loads(metaclaw(tmp_path, "why", "t1", "--json").stdout)["lessons"] == []
    taught = TaughtTurn(turn="t9", method="opd", teacher="big at home", num_tokens=12, gap=-0.5, change=-0.125)
    hint = replace(taught, method="self_distillation", teacher="itself", gap=float("nan"), change=None)
    sample = Sample(turn="t9", exchange="e9", agent="main", version=0, reward=0.5, sampled_at=1.0)
    with LearningJournal.open(tmp_path / "learning.db") as learning:
        learning.record_verdict(exchange="e9", agent="main", judge="j", score=0.5, detail={}, samples=[sample])
        refused = learning.claim("main", 0, ["t9"])
        learning.reject(
            refused,
            "too far",
            baseline=Baseline(value=0.0, num_rewards=1),
            metrics={},
            lessons=[replace(taught, change=None)],
        )
        learning._connection.execute("UPDATE samples SET state = 'pending', claimed_by = NULL WHERE turn = 't9'")
        made = NewVersion(base_model="m", state_path="s", sampler_path="p")
        learning.commit(
            learning.claim("main", 0, ["t9"]), made, number=1, baseline=None, metrics={}, lessons=[taught, hint]
        )

    async def turn() -> None:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            await journal.open_turn(new_turn("t9", user("x"), exchange="e9"))
            await journal.close_turn("t9", done(sample=SAMPLE))

    asyncio.run(turn())
    said = metaclaw(tmp_path, "why", "t9").stdout
    for words in (
        "sample: consumed (version 1 was trained on it)",
        "taught by big at home (opd): 12 tokens, on average 0.500 nats a token less likely to it; update 1 was",
        "less likely to it; version 1: there the answer is 0.125 nats a token less likely, by all that was learned",
        "taught by itself (self_distillation): 12 tokens; version 1",
    ):
        assert words in said, words


def test_another_try_at_a_message_shows_what_was_weighed_when_it_came(tmp_path: Path) -> None:
    asyncio.run(record(tmp_path))
    said = metaclaw(tmp_path, "why", "t2").stdout
    assert "recalled skill git-commit, score 3.25" in said
    assert "chosen at t1" in said
    assert "answered by openai" in said
    assert "not judged" in said


def test_a_turn_that_is_held_out_says_so_and_not_that_it_waits_for_its_judge(tmp_path: Path) -> None:
    async def record_one() -> None:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            await journal.open_turn(new_turn("t9", user("x"), exchange="ex-9-last"))
            await journal.close_turn("t9", done(sample=SAMPLE))

    asyncio.run(record_one())
    waits = metaclaw(tmp_path, "why", "t9", env={"METACLAW_RL_GATE_HELD_OUT_SHARE": "0"}).stdout
    assert "not judged yet" in waits
    held_out = metaclaw(tmp_path, "why", "t9", env={"METACLAW_RL_GATE_HELD_OUT_SHARE": "0.5"}).stdout
    assert "sample: held out" in held_out
    assert "never judged nor trained on" in held_out
    assert "not judged yet" not in held_out


def test_a_turn_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    asyncio.run(record(tmp_path))
    said = metaclaw(tmp_path, "why", "t3")
    assert (said.returncode, said.stdout) == (1, "")
    assert "there is no turn 't3'" in said.stderr
