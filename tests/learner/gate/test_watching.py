"""Taking back a version whose rewards fall, and what a person decides."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from metaclaw.config import GateSettings
from metaclaw.errors import JournalError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Baseline, NewVersion, Sample
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.journal.policy_reader import read_policies
from metaclaw.journal.requests import RequestStore
from metaclaw.learner.deciding import Deciding
from metaclaw.learner.decisions import PolicyDecisions
from metaclaw.learner.gate.decline import decline
from metaclaw.learner.gate.watching import Watching
from tests.cli.programs import metaclaw

SETTINGS = GateSettings()
RUNS = 120  # 2,000 in the table of docs/gate.md


@dataclass
class World:
    path: Path
    learning: LearningJournal
    holds: PolicyHolds
    now: float = 0.0
    number: int = 0

    def says(self, version: int, *rewards: float) -> None:
        """An exchange for each reward, a second apart."""
        for reward in rewards:
            self.now += 1
            self.number += 1
            name = f"n{self.number}"
            sample = Sample(turn=name, exchange=name, agent="main", version=version, reward=reward, sampled_at=self.now)
            self.learning.record_verdict(
                exchange=name, agent="main", judge="j", score=reward, detail={}, samples=[sample]
            )

    def update(self, number: int) -> None:
        """Make version ``number`` from what serves."""
        self.now += 1
        claimed = self.learning.claim("main", self.learning.serving("main"), [])
        new = NewVersion(
            base_model="b", state_path=f"state{number}", sampler_path=f"tinker://m/sampler_weights/{number}"
        )
        self.learning.commit(
            claimed, new, number=number, baseline=Baseline(value=0, num_rewards=1), metrics={"gate/kl": 0.01 * number}
        )

    @property
    def watching(self) -> Watching:
        return Watching(journal=self.learning, holds=self.holds, settings=SETTINGS)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "learning.db"
    with (
        LearningJournal.open(path, clock=lambda: world.now) as learning,
        closing(PolicyHolds.open(path, clock=lambda: world.now)) as holds,
    ):
        world = World(path, learning, holds)
        yield world


@pytest.mark.anyio
async def test_a_version_that_collapses_is_taken_back_and_the_agent_rests(world, caplog):
    world.says(0, *[1.0, 0.0, 1.0] * 8)
    world.update(1)
    world.says(1, *[1.0, 1.0, 0.0] * 4)
    assert not await world.watching.step(), "it does as well as the base model"
    world.update(2)
    world.says(2, *[-1.0] * 12)
    assert await world.watching.step()
    assert world.learning.serving("main") == 1
    (held,) = world.holds.holds("main")
    assert held.kind == "cooldown"
    assert "rolled back from 2 by itself" in held.reason
    assert "rolled back from 2 by itself" in caplog.text
    assert not await world.watching.step(), "what serves now is watched from now on"
    world.now += SETTINGS.cooldown_hours * 3600
    assert world.holds.holds("main") == []


@pytest.mark.anyio
async def test_a_rollback_that_was_broken_off_leaves_the_agent_at_rest_and_is_made_at_the_next_look(world):
    world.says(0, *[1.0] * 12)
    world.update(1)
    world.says(1, *[-1.0] * 12)
    with closing(sqlite3.connect(world.path)) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON serving_history BEGIN SELECT raise(ABORT, 'disk'); END")
        with pytest.raises(JournalError, match="disk"):
            await world.watching.step()
        assert world.learning.serving("main") == 1
        assert [held.kind for held in world.holds.holds("main")] == ["cooldown"], "no update goes between the two"
        db.execute("DROP TRIGGER full")
    assert await world.watching.step()
    assert world.learning.serving("main") == 0


@pytest.mark.anyio
async def test_a_version_that_cannot_be_taken_back_may_be_trained_on(world):
    world.says(0, *[1.0] * 12)
    world.update(1)
    world.says(1, *[1.0] * 12)
    world.update(2)
    world.learning.retire("main", keep=[])
    world.says(2, *[-1.0] * 12)
    assert not await world.watching.step()
    assert world.holds.holds("main") == [], "what follows is all that can make it better"


@pytest.mark.anyio
async def test_one_that_a_person_promotes_again_is_judged_by_what_it_does_from_then_on(world):
    world.says(0, *[1.0] * 12)
    world.update(1)
    world.says(1, *[-1.0] * 12)
    assert await world.watching.step()
    decisions = PolicyDecisions(world.learning, world.holds)
    world.now += 1
    assert "version 1 serves" in decisions.carry_out("policy_promote", "main", "1")
    assert not await world.watching.step()
    assert world.learning.serving("main") == 1


def test_a_version_as_good_as_before_is_rarely_accused_and_a_collapse_soon_is():
    def accused_after(seed: int, right: float, then_right: float) -> int | None:
        chance = Random(seed)

        def draw(share: float) -> list[float]:
            return [1.0 if chance.random() < share else -1.0 for _ in range(100)]

        before, now = draw(then_right), draw(right)
        looks = range(1, 101, 3)
        return next((look for look in looks if decline(now[:look], before, error=0.02).is_proven), None)

    same = [accused_after(seed, 0.7, 0.7) for seed in range(RUNS)]
    assert sum(look is not None for look in same) <= RUNS * 0.02 + 3
    collapsed = sorted(accused_after(seed, 0.05, 0.7) or 999 for seed in range(RUNS))
    assert collapsed[int(0.9 * RUNS)] <= 40


def asked(world: World, kind: str, subject: str) -> str | None:
    requests_db = world.path.with_name("requests.db")
    with closing(RequestStore.open(requests_db)) as store:
        number = store.ask(kind, agent="main", subject=subject, now=0.0)
        Deciding(requests_db=requests_db, decisions=PolicyDecisions(world.learning, world.holds))._answer_all()
        request = store.request(number)
    return request and request.outcome


def test_what_a_command_asks_of_a_running_learner_is_done_or_answered_with_the_reason(world):
    world.update(1)
    world.update(2)
    assert asked(world, "policy_promote", "7") == "not done: agent 'main' has no version 7"
    assert asked(world, "policy_promote", "2") == "not done: version 2 of main serves already"
    assert asked(world, "policy_rollback", "") == "main: version 1 serves new sessions"
    assert "whatever the gate thought" in str(asked(world, "policy_promote", "2"))
    assert asked(world, "policy_unpin", "") == "not done: main is not pinned"
    assert "stays with version 2" in str(asked(world, "policy_pin", "good enough"))
    assert [hold.reason for hold in world.holds.holds("main")] == ["good enough"]
    assert asked(world, "policy_unpin", "") == "main may be updated again"


def test_the_commands_tell_and_decide_where_no_learner_runs(world):
    world.says(0, 1.0, -1.0)
    world.update(1)
    world.says(1, 1.0, 1.0)
    world.update(2)
    refused = world.learning.claim("main", 2, [])
    world.learning.reject(refused, "too long", baseline=Baseline(value=0, num_rewards=1), metrics={"gate/kl": 9.0})
    home = world.path.parent
    assert metaclaw(home, "policy", "pin", "--why", "holiday").returncode == 0
    rolled_back = metaclaw(home, "policy", "rollback", "--json")
    assert json.loads(rolled_back.stdout)["outcome"] == "main: version 1 serves new sessions", rolled_back.stderr
    assert world.learning.serving("main") == 1
    listed = metaclaw(home, "policy", "list").stdout
    assert "main@1\tfrom 0, serves\tmean reward +1.00 over 2 exchanges" in listed
    assert "not updated (pinned): holiday" in listed
    (policy,) = read_policies(world.path, now=0.0)
    assert [one.mean_reward for one in policy.versions] == [0.0, 1.0, None]
    shown = metaclaw(home, "policy", "show").stdout
    for words in (
        "gate/kl\t0.01",
        "update 3 was refused: too long",
        "rollback from 2",
        "not updated (pinned): holiday",
    ):
        assert words in shown, words
    compared = json.loads(metaclaw(home, "policy", "diff", "1", "2", "--json").stdout)
    assert [one["metrics"]["gate/kl"] for one in compared["versions"]] == [0.01, 0.02]
    asked = metaclaw(home, "policy", "diff", "1", "2", "--answers", "2")
    assert "no held-out prompts" in asked.stdout, "nothing was said of answers that nobody could give"
    assert "agent 'nobody' has no policy" in metaclaw(home, "policy", "list", "--agent", "nobody").stdout
    unknown = metaclaw(home, "policy", "promote", "9")
    assert (unknown.returncode, "no version 9" in unknown.stderr) == (1, True)
