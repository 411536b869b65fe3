"""Updates that somebody asks for: done at once, for one agent or whoever has enough, and answered whatever happens."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from metaclaw.errors import BackendError, JournalError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Sample
from metaclaw.journal.train_steps import EVERY_AGENT, TrainAnswer, TrainSteps
from metaclaw.learner.outcomes import Outcome, Rejected, Waiting
from metaclaw.learner.updating import Permission, Updating, WhenAsked

pytestmark = pytest.mark.anyio


@dataclass
class Scripted:
    """Answers for each agent what it is told to."""

    outcomes: dict[str, Outcome | Exception] = field(default_factory=dict)

    async def attempt(self, agent: str) -> Outcome:
        outcome = self.outcomes[agent]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@dataclass
class Closed:
    """No window, and who trained all the same."""

    ran: list[tuple[str, bool]] = field(default_factory=list)

    async def is_open(self) -> bool:
        return False

    async def run(self, agent: str, work: Coroutine[Any, Any, Outcome], *, is_asked: bool = False) -> Outcome:
        self.ran.append((agent, is_asked))
        return await work


class Free(Closed):
    """A window that is always open."""

    async def is_open(self) -> bool:
        return True


@dataclass
class World:
    journal: LearningJournal
    updating: Updating
    training: Scripted
    windows: Closed
    steps: TrainSteps
    time: list[float]

    async def answer(self, agent: str) -> TrainAnswer:
        number = self.steps.ask(agent, now=self.time[0], until=self.time[0] + 60)
        assert await self.updating.step()
        answer = self.steps.answered(number)
        assert answer is not None
        return answer


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    time, training, windows, steps = [100.0], Scripted(), Closed(), TrainSteps(tmp_path / "requests.db")
    with LearningJournal.open(tmp_path / "learning.db", clock=lambda: time[0]) as journal:
        for agent in ("ann", "bob"):
            sample = Sample(turn=agent, exchange=agent, agent=agent, version=0, reward=1.0, sampled_at=0.0)
            journal.record_verdict(exchange=agent, agent=agent, judge="t", score=1.0, detail={}, samples=[sample])
        updating = Updating(journal=journal, training=training, permission=windows, asked=steps, clock=lambda: time[0])
        yield World(journal, updating, training, windows, steps, time)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Waiting(reason="3 of 16 judged exchanges"), "skipped"), (Rejected(update_id=1, reason="KL"), "refused"),
        (BackendError("the training server is down"), "error"),
    ],
)  # fmt: skip
async def test_what_comes_of_it_is_answered_with_the_reason(world: World, outcome, status: str):
    world.training.outcomes = {"ann": outcome}
    answer = await world.answer("ann")
    assert (answer.status, answer.agent, answer.step) == (status, "ann", None)
    assert answer.reason == (str(outcome) if isinstance(outcome, Exception) else outcome.reason)
    assert world.windows.ran == [("ann", True)], "no window was needed, and nobody else was trained"


async def test_where_training_waits_for_a_word_nothing_begins_by_itself_and_what_is_asked_for_is_done(world: World):
    """SPEC A12, `manual_train_trigger`: enough was judged, and it is still not trained on before somebody says so."""
    world.training.outcomes = {"ann": Waiting(reason="few"), "bob": Waiting(reason="fewer")}
    tried: list[str] = []

    class Counting:
        async def attempt(self, agent: str) -> Outcome:
            tried.append(agent)
            return await world.training.attempt(agent)

    updating = Updating(
        journal=world.journal,
        training=Counting(),
        permission=WhenAsked(),
        asked=world.steps,
        clock=lambda: world.time[0],
    )
    assert not await updating.step()
    assert tried == []
    world.steps.ask("ann", now=world.time[0], until=world.time[0] + 60)
    assert await updating.step()
    assert tried == ["ann"]


async def test_without_an_agent_everybody_is_tried(world: World):
    world.training.outcomes = {"ann": Waiting(reason="few"), "bob": Waiting(reason="fewer")}
    answer = await world.answer(EVERY_AGENT)
    assert (answer.status, answer.reason) == ("skipped", "ann: few; bob: fewer")
    assert world.windows.ran == [("ann", True), ("bob", True)]


async def test_a_failure_of_one_agent_is_not_hidden_by_another_that_has_to_wait(world: World):
    world.training.outcomes = {"ann": Waiting(reason="few"), "bob": BackendError("the training server is down")}
    answer = await world.answer(EVERY_AGENT)
    assert (answer.status, answer.agent) == ("error", "bob")
    assert answer.reason == "ann: few; bob: the training server is down"


async def test_a_request_that_nobody_waits_for_any_more_is_not_done(world: World):
    number = world.steps.ask("ann", now=100.0, until=110.0)
    world.time[0] = 111.0
    assert not await world.updating.step()
    assert world.windows.ran == []
    answer = world.steps.answered(number)
    assert answer is not None
    assert answer.status == "error"


async def test_each_agent_is_trained_when_its_own_mode_says(world: World):
    """One whenever there is enough, one in windows alone, and one that is not trained not even when it is asked for."""
    world.training.outcomes = {agent: Waiting(reason="few") for agent in ("ann", "bob", "eve")}
    free = Free()
    permissions: dict[str, Permission | None] = {"ann": free, "bob": world.windows, "eve": None}
    world.updating = Updating(
        journal=world.journal, training=world.training, permission_of=permissions.__getitem__, asked=world.steps,
        clock=lambda: world.time[0],
    )  # fmt: skip
    eve = Sample(turn="eve", exchange="eve", agent="eve", version=0, reward=1.0, sampled_at=0.0)
    world.journal.record_verdict(exchange="eve", agent="eve", judge="t", score=1.0, detail={}, samples=[eve])
    await world.updating.step()
    assert (free.ran, world.windows.ran) == ([("ann", False)], [])
    assert (await world.answer("eve")).reason == "its mode is skills_only, so it is not trained"
    await world.answer(EVERY_AGENT)
    assert ("bob", True) in world.windows.ran
    assert {agent for agent, _ in [*free.ran, *world.windows.ran]} == {"ann", "bob"}


async def test_a_fault_that_nobody_foresaw_with_one_agent_leaves_the_others_their_turn(world):
    world.windows.is_open = Free.is_open.__get__(world.windows)
    world.training.outcomes = {"ann": ZeroDivisionError("a defect"), "bob": Waiting(reason="more")}
    with pytest.raises(ZeroDivisionError):
        await world.updating.step()
    await world.updating.step()
    assert [agent for agent, _ in world.windows.ran] == ["ann", "bob"]
    world.time[0] += 1_000
    with pytest.raises(ZeroDivisionError):
        await world.updating.step()


@pytest.mark.parametrize("error", [BackendError("away"), JournalError("the disk is full")])
async def test_a_clock_that_is_set_back_does_not_make_a_pause_longer(world, error: Exception):
    world.windows.is_open = Free.is_open.__get__(world.windows)
    world.training.outcomes = {"ann": error, "bob": Waiting(reason="more")}
    await world.updating.step()
    await world.updating.step()
    assert [agent for agent, _ in world.windows.ran].count("ann") == 1
    world.time[0] -= 86_400
    await world.updating.step()
    assert [agent for agent, _ in world.windows.ran].count("ann") == 2


async def test_who_asks_is_answered_when_the_journal_cannot_be_written(world):
    world.training.outcomes = {"ann": JournalError("the disk is full")}
    answer = await world.answer("ann")
    assert (answer.status, answer.reason) == ("error", "the disk is full")
