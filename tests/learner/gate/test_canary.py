"""A version that passed the gate answers a share of the sessions first: who gets it, and what ends it."""

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
from metaclaw.errors import ConflictError, JournalError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import NewVersion, Sample
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.journal.policy_reader import read_policies
from metaclaw.learner.decisions import PolicyDecisions
from metaclaw.learner.gate.canary import Canaries
from tests.cli.programs import metaclaw

SETTINGS = GateSettings(canary_share=0.25)
SHARE = SETTINGS.canary_share
DAY_S = 86_400.0


@dataclass
class World:
    path: Path
    learning: LearningJournal
    holds: PolicyHolds
    now: float = 0.0
    number: int = 0

    def says(self, version: int, *rewards: float, agent: str = "main") -> None:
        for reward in rewards:
            self.now += 1
            self.number += 1
            name = f"n{self.number}"
            sample = Sample(turn=name, exchange=name, agent=agent, version=version, reward=reward, sampled_at=self.now)
            self.learning.record_verdict(
                exchange=name, agent=agent, judge="j", score=reward, detail={}, samples=[sample]
            )

    def update(self, number: int, *, share: float = SHARE, agent: str = "main") -> None:
        claimed = self.learning.claim(agent, self.learning.serving(agent), [])
        new = NewVersion(base_model="b", state_path=f"{agent}{number}", sampler_path=f"tinker://m/s/{agent}{number}")
        self.learning.commit(claimed, new, number=number, baseline=None, metrics={}, canary_share=share)

    @property
    def canaries(self) -> Canaries:
        return Canaries(journal=self.learning, holds=self.holds, settings=SETTINGS, clock=lambda: self.now)

    def history(self) -> list[str]:
        return [change["why"] for change in read_policies(self.path, now=self.now, agent="main")[0].history]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    path = tmp_path / "learning.db"
    with (
        LearningJournal.open(path, clock=lambda: world.now) as learning,
        closing(PolicyHolds.open(path, clock=lambda: world.now)) as holds,
    ):
        world = World(path, learning, holds)
        yield world


def mixed(random: Random, right: float, count: int) -> list[float]:
    return [1.0 if random.random() < right else -1.0 for _ in range(count)]


@pytest.mark.anyio
async def test_a_canary_that_does_as_well_in_the_same_days_comes_to_serve(world):
    random = Random(1)
    world.update(1, share=0.0)
    world.says(1, *[1.0] * 40)  # easy days, before it
    world.update(2)
    assert (world.learning.serving("main"), world.learning.canary("main").version) == (1, 2)
    while not await world.canaries.step():
        world.says(1, *mixed(random, 0.5, 3))
        world.says(2, *mixed(random, 0.5, 1))
        assert world.number < 2000
    assert (world.learning.serving("main"), world.learning.canary("main")) == (2, None)
    assert "its rewards were not worse" in world.history()[0]
    assert world.history()[1] == "version 2 is tried on 25% of new sessions"
    assert not await world.canaries.step(), "it is decided once"


@pytest.mark.anyio
async def test_a_canary_that_collapses_is_withdrawn_and_the_agent_rests(world):
    random = Random(2)
    world.update(1)
    for _ in range(100):
        world.says(0, *mixed(random, 0.8, 3))
        world.says(1, *mixed(random, 0.1, 1))
        if await world.canaries.step():
            break
    assert (world.learning.serving("main"), world.learning.canary("main")) == (0, None)
    assert "version 1 is withdrawn by itself" in world.history()[0]
    (held,) = world.holds.holds("main")
    assert (held.kind, held.until) == ("cooldown", world.now + 24 * 3600)


@pytest.mark.anyio
async def test_who_pins_an_agent_keeps_what_serves_and_no_canary_comes_to_serve_later(world):
    world.update(1, share=0.0)
    world.update(2)
    told = PolicyDecisions(world.learning, world.holds).carry_out("policy_pin", "main", "good enough")
    assert "main stays with version 1: version 2 is tried no more" in told
    world.says(1, *[-1.0] * 40)
    world.says(2, *[1.0] * 40)
    assert not await world.canaries.step()
    assert (world.learning.serving("main"), world.learning.canary("main")) == (1, None)
    assert world.history()[0] == "version 2 is withdrawn: pinned, good enough"


@pytest.mark.anyio
@pytest.mark.parametrize(("canary", "serves"), [([1.0, -1.0], 1), ([-1.0, -1.0], 0), ([], 1)])
async def test_what_is_undecided_when_the_time_is_over_goes_by_the_mean(world, canary, serves):
    world.update(1)
    world.says(0, 1.0, -1.0)
    world.says(1, *canary)
    world.now = SETTINGS.canary_days * DAY_S - 1
    assert not await world.canaries.step()
    world.now = SETTINGS.canary_days * DAY_S + 1
    assert await world.canaries.step()
    assert world.learning.serving("main") == serves


def test_a_persons_word_ends_it(world):
    decisions = PolicyDecisions(world.learning, world.holds)
    world.update(1)
    assert decisions.carry_out("policy_rollback", "main", "") == (
        "main: version 1 is tried no more; the base model serves"
    )
    assert world.learning.canary("main") is None
    with pytest.raises(ConflictError):
        decisions.carry_out("policy_rollback", "main", "")
    world.update(2)
    canary = world.learning.canary("main")
    decisions.carry_out("policy_promote", "main", "2")
    assert (world.learning.serving("main"), world.learning.canary("main")) == (2, None)
    with pytest.raises(ConflictError, match="not tried any more"):
        world.learning.end_canary(canary, "late", serves=False)


def test_agents_have_canaries_of_their_own_and_a_failed_commit_leaves_none(world):
    world.update(1)
    world.update(1, agent="other", share=0.0)
    assert world.learning.canary("other") is None
    assert [canary.agent for canary in world.learning.canaries()] == ["main"]
    world.learning.end_canary(world.learning.canary("main"), "done", serves=False)
    with closing(sqlite3.connect(world.path)) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON serving_history BEGIN SELECT raise(ABORT, 'disk'); END")
    with pytest.raises(JournalError):
        world.update(2)
    assert world.learning.canary("main") is None
    assert world.learning.next_version("main") == 2


def test_the_list_says_who_is_tried(world):
    world.update(1)
    shown = metaclaw(world.path.parent, "policy", "list").stdout
    assert "main@1\tfrom 0, tried on 25% of new sessions" in shown
    (policy,) = json.loads(metaclaw(world.path.parent, "policy", "list", "--json").stdout)
    assert [one["canary_share"] for one in policy["versions"]] == [None, 0.25]
