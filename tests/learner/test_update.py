"""One update from judged turns to a version that serves, and all the ways in which it does not get there."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from metaclaw.config import UpdateSettings
from metaclaw.errors import BackendError, ConflictError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Version
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.journal.turns import TurnJournal, TurnReader
from metaclaw.learner.backends.backend import RefusedDataError
from metaclaw.learner.gate.examination import GateWaitsError
from metaclaw.learner.inbox import Inbox
from metaclaw.learner.outcomes import Rejected, Waiting
from metaclaw.learner.rollouts import RolledAnswer, RolledOut
from metaclaw.learner.update import Updater
from metaclaw.learner.versions import list_versions, roll_back
from tests.fakes.gate import FakeGate
from tests.fakes.trainer import VOCABULARY, FakeTrainer, log_softmax
from tests.learner.recording import Said, policy_sample, record

pytestmark = pytest.mark.anyio

SETTINGS = UpdateSettings(
    min_exchanges=4, min_informative=2, max_exchanges=16, learning_rate=0.05, warmup_steps=2, max_kl=0.05
)


@dataclass
class World:
    """A policy that draws one token a turn, and a reward for odd ones."""

    folder: Path
    turns: TurnJournal
    learning: LearningJournal
    holds: PolicyHolds
    trainer: FakeTrainer = field(default_factory=FakeTrainer)
    gate: FakeGate = field(default_factory=FakeGate)
    numbers: itertools.count = field(default_factory=itertools.count)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))

    def updater(self, *, rollouts: Drawn | None = None, resume_from: str = "", **changes) -> Updater:
        return Updater(
            journal=self.learning,
            turns_db=self.folder / "turns.db",
            backend=self.trainer,
            gate=self.gate,
            holds=self.holds,
            rollouts=rollouts,
            resume_from=resume_from,
            settings=SETTINGS.model_copy(update=changes),
            new_suffix=lambda: f"r{next(self.numbers)}",
            clock=lambda: 0.0,
        )

    async def converse(
        self,
        count: int,
        *,
        rewards: Sequence[float] | None = None,
        temperature: float = 0.8,
        at: float = 0.0,
        off: float = 0.0,
    ) -> float:
        """Record ``count`` turns of the serving version with their verdicts; return their mean reward.

        The log-probabilities are recorded ``off`` by so much.
        """
        serving = self.learning.serving("main")
        path = self.learning.version("main", serving).sampler_path if serving else None
        logprobs_V = log_softmax(self.trainer.logits(path), temperature)
        inbox = Inbox(turns_db=self.folder / "turns.db", journal=self.learning, needs_followup=False, idle_s=1)
        scores = list[float]()
        for index in range(count):
            name = f"n{next(self.numbers)}"
            token = int(self.random.choice(VOCABULARY, p=np.exp(logprobs_V)))
            sample = policy_sample([0], [token], [logprobs_V[token] - off], temperature=temperature, version=serving)
            said = Said(turn=name, exchange=f"x{name}", session=name, sample=sample, opened_at=at)
            await record(self.turns, said)
            scores.append(rewards[index % len(rewards)] if rewards else float(token % 2))
        for due, score in zip(inbox.due(count), scores, strict=True):
            self.learning.record_verdict(
                exchange=due.exchange.id, agent="main", judge="t", score=score, detail={}, samples=due.samples(score)
            )
        return sum(scores) / count

    async def converse_wrongly(self, count: int) -> None:
        """As ``converse``, by a sampler that does not agree with the trainer about the same version."""
        await self.converse(count, off=0.5)

    def states(self) -> dict[str, int]:
        rows = self.learning._connection.execute("SELECT state, count(*) FROM samples GROUP BY state").fetchall()
        return dict(map(tuple, rows))


@pytest.fixture
async def world(tmp_path):
    with LearningJournal.open(tmp_path / "learning.db") as learning:
        holds = PolicyHolds.open(tmp_path / "learning.db", clock=lambda: 0.0)
        async with TurnJournal(tmp_path / "turns.db") as turns:
            yield World(tmp_path, turns, learning, holds)
        holds.close()


async def test_updates_raise_the_reward_and_resume_from_each_other(world):
    updater = world.updater()
    first = await world.converse(16)
    for number in range(1, 13):
        version = await updater.attempt("main")
        assert isinstance(version, Version)
        assert (version.version, version.parent) == (number, number - 1)
        last = await world.converse(16)
    assert world.trainer.calls.count("open") == 1, "the live weights were not kept between updates"
    assert last > first + 0.2
    await updater.close()
    assert world.trainer.num_open == 0


async def test_an_agent_without_a_version_begins_with_the_state_that_was_named_once_and_unchanged(world):
    named = "tinker://elsewhere/weights/good"
    world.trainer.saved[named] = np.linspace(-1, 1, VOCABULARY)
    await world.converse(16)
    world.trainer.failures["save"] = BackendError("the disk is full")
    updater = world.updater(resume_from=named)
    with pytest.raises(BackendError, match="the disk is full"):
        await updater.attempt("main")
    assert (world.learning.serving("main"), world.trainer.num_open) == (0, 0)
    first = await updater.attempt("main")
    assert isinstance(first, Version)
    assert (first.version, first.parent, world.learning.serving("main")) == (1, 0, 1)
    np.testing.assert_array_equal(world.trainer.logits(first.sampler_path), world.trainer.saved[named])
    assert named not in (first.state_path, first.sampler_path)
    assert world.states() == {"pending": 16}, "no sample was trained on"
    await world.converse(16)
    second = await updater.attempt("main")
    assert isinstance(second, Version)
    assert (second.version, second.parent) == (2, 1)
    roll_back(world.learning, "main", 0)
    await world.converse(16)
    third = await updater.attempt("main")
    assert isinstance(third, Version)
    assert third.parent == 0, "who was taken back to the base model is not brought there again"
    await updater.close()
    assert named in world.trainer.saved


async def test_a_state_that_is_not_there_names_the_setting(world):
    await world.converse(16)
    with pytest.raises(BackendError, match=r"nowhere does not exist \(rl\.resume_from"):
        await world.updater(resume_from="tinker://nowhere").attempt("main")


async def test_an_update_records_what_it_measured(world):
    await world.converse(6)
    await world.updater().attempt("main")
    (status,) = read_status(world.folder / "learning.db")
    assert (status.serving, status.judged, status.consumed, status.pending) == (1, 6, 6, 0)
    assert status.last_update is not None
    metrics = status.last_update.metrics
    assert metrics["sampler_gap"] == pytest.approx(0, abs=1e-6)
    assert metrics["ratio_mean"] == pytest.approx(1, abs=1e-6)
    assert 0 < metrics["kl"] < 0.05
    assert metrics["learning_rate"] == pytest.approx(0.025), "the first of two warm-up updates"
    assert metrics["num_tokens"] == 6
    assert {"step/grad_norm", "reward_mean", "baseline", "excluded"} <= set(metrics)
    assert set(metrics["seconds"]) >= {"forward_backward", "optim_step", "forward"}


async def test_a_model_that_says_its_size_gets_the_learning_rate_for_it_and_that_is_said(world, caplog):
    await world.converse(6)
    with caplog.at_level("INFO"):
        await world.updater(learning_rate=0.0).attempt("main")
    metrics = read_status(world.folder / "learning.db")[0].last_update.metrics
    assert metrics["learning_rate"] == pytest.approx(3e-4 / 2), "the first of two warm-up updates"
    assert "the learning rate's peak is 0.0003: for 16 parameters" in caplog.text


LOGGED = (
    "sampler_gap", "sampler_gap_max", "sampler_kl", "ratio_mean", "ratio_min", "ratio_p01", "ratio_p99", "ratio_max",
    "entropy", "entropy_after", "kl", "kl_k1", "effective_share", "staleness_mean", "staleness_max", "masked_share",
    "masked_turns", "cut_share", "clipped_share", "num_sequences",
)  # fmt: skip


async def test_every_number_that_tells_of_an_update_is_recorded_and_documented(world):
    await world.converse(6)
    await world.updater(reference_kl=0.1).attempt("main")
    metrics = read_status(world.folder / "learning.db")[0].last_update.metrics
    page = (Path(__file__).parents[2] / "docs" / "updates.md").read_text()
    for name in (*LOGGED, "reference_kl", "reference_kl_k1"):
        assert isinstance(metrics[name], float), name
        assert f"`{name}`" in page, name
    assert metrics["reference_kl"] == 0.0, "the first update starts at the base model"
    assert metrics["entropy_after"] == pytest.approx(metrics["entropy"], abs=0.3)
    assert set(metrics["seconds"]) >= {"weigh", "reference"}
    assert world.trainer.num_open == 1, "the base model's run is still open"


@dataclass
class Drawn:
    """Rollouts that always answer with the tokens 1 and 2, of which 1 is better."""

    asked: list[tuple[str | None, tuple[str, ...]]] = field(default_factory=list)
    failure: Exception | None = None

    async def draw(self, weights: str | None, turns: Sequence[str]) -> RolledOut:
        if self.failure is not None:
            raise self.failure
        self.asked.append((weights, tuple(turns)))
        answers = tuple(
            RolledAnswer(prompt=(0,), tokens=(token,), temperature=0.8, advantage=advantage)
            for token, advantage in ((1, 0.5), (2, -0.5))
        )
        return RolledOut(answers=answers, numbers={"rollouts": 2.0})


async def test_what_an_update_draws_itself_is_trained_on_and_is_in_no_manifest(world):
    drawn = Drawn()
    updater = world.updater(rollouts=drawn, max_token_weight=0.0, max_mismatch=0.0)
    await world.converse(6, rewards=[1.0, 0.0])
    before = world.trainer.logits(None)
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    metrics = read_status(world.folder / "learning.db")[0].last_update.metrics
    assert (metrics["num_tokens"], metrics["num_turns"], metrics["rollouts"]) == (8, 6, 2)
    assert metrics["ratio_max"] == pytest.approx(1.0), "what was drawn now is as likely as it was when drawn"
    assert world.states() == {"consumed": 6}
    moved = world.trainer.saved[version.state_path] - before
    assert moved[1] > moved[2]
    await world.converse(6, rewards=[1.0, 0.0])
    await updater.attempt("main")
    assert [weights for weights, _ in drawn.asked] == [None, version.sampler_path]
    assert [len(turns) for _, turns in drawn.asked] == [6, 6]


async def test_when_nothing_can_be_drawn_the_samples_wait(world):
    await world.converse(6)
    with pytest.raises(BackendError, match="away"):
        await world.updater(rollouts=Drawn(failure=BackendError("away"))).attempt("main")
    assert world.states() == {"pending": 6}


async def test_without_corrections_there_is_no_pass_before_the_step(world):
    await world.converse(6)
    await world.updater(max_token_weight=0.0, max_mismatch=0.0).attempt("main")
    assert world.trainer.calls[:3] == ["open", "forward_backward", "optim_step"]


async def test_an_answer_that_sampler_and_trainer_see_differently_is_left_out_of_the_manifest(world):
    await world.converse(6)
    await world.converse_wrongly(2)
    version = await world.updater().attempt("main")
    assert isinstance(version, Version)
    assert world.states() == {"consumed": 6, "expired": 2}
    metrics = read_status(world.folder / "learning.db")[0].last_update.metrics
    assert (metrics["masked_turns"], metrics["masked_share"]) == (2, 0.25)
    assert len(world.learning.rewards_of(version.update_id)) == 6
    await world.converse(6)
    await world.updater().attempt("main")
    metrics = read_status(world.folder / "learning.db")[0].last_update.metrics
    assert metrics["excluded"] == {"sampler_mismatch": 2}


async def test_when_no_answer_is_left_the_update_is_refused_by_name_and_nothing_is_tried_for_ever(world):
    await world.converse_wrongly(8)
    updater = world.updater()
    rejected = await updater.attempt("main")
    assert isinstance(rejected, Rejected)
    assert "rl.update.max_mismatch" in rejected.reason
    assert world.states() == {"rejected": 8}
    assert "forward_backward" not in world.trainer.calls
    await world.converse(8)
    assert isinstance(await updater.attempt("main"), Version)


async def test_too_little_waits_without_touching_the_trainer(world):
    await world.converse(3)
    assert await world.updater().attempt("main") == Waiting(reason="3 of 4 judged exchanges")
    assert world.trainer.calls == []
    assert read_status(world.folder / "learning.db")[0].last_update is None


async def test_an_absurd_learning_rate_is_refused_and_what_serves_stays(world):
    """PITFALLS R14: no gate, a bad update was served at once."""
    await world.converse(8)
    assert isinstance(await world.updater().attempt("main"), Version)
    await world.converse(8)
    rejected = await world.updater(learning_rate=9.0).attempt("main")
    assert isinstance(rejected, Rejected)
    assert "max_kl" in rejected.reason
    assert world.learning.serving("main") == 1
    assert world.states() == {"consumed": 8, "rejected": 8}
    assert [path for path in world.trainer.saved if "-v2-" in path] == [], "nothing of a refused update is saved"
    await world.converse(8)
    version = await world.updater().attempt("main")
    assert isinstance(version, Version)
    assert (version.version, version.parent) == (2, 1)


async def test_a_step_that_went_too_far_is_taken_back_and_made_shorter(world):
    await world.converse(8)
    updater = world.updater(learning_rate=0.9, warmup_steps=0, max_kl=0.05)
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    (status,) = read_status(world.folder / "learning.db")
    metrics = status.last_update.metrics
    assert metrics["kl"] <= 0.05
    assert metrics["shortened"] >= 1
    assert 0.9 / 4 ** metrics["shortened"] <= metrics["learning_rate"] <= 0.9 * 0.85 ** metrics["shortened"]
    assert world.trainer.calls.count("optim_step") == metrics["shortened"] + 1
    assert world.trainer.num_open == 1, "the runs that were taken back are still open"
    alone = world.trainer.logits(None) - world.trainer.saved[version.state_path]
    assert np.abs(alone).max() <= metrics["learning_rate"] + 1e-9, "a step that was taken back still moved the weights"


async def test_several_steps_of_one_update_see_each_exchange_once_and_are_measured_from_its_start(world):
    await world.converse(8)
    version = await world.updater(steps=4, warmup_steps=0, max_kl=5.0).attempt("main")
    assert isinstance(version, Version)
    (status,) = read_status(world.folder / "learning.db")
    assert world.trainer.calls.count("optim_step") == world.trainer.calls.count("forward_backward") == 4
    assert status.last_update.metrics["num_tokens"] == status.consumed == 8
    start_V = log_softmax(world.trainer.logits(None), 0.8)
    change_V = log_softmax(world.trainer.saved[version.state_path], 0.8) - start_V
    drawn = await asyncio.to_thread(_drawn_tokens, world.folder)
    assert status.last_update.metrics["kl"] == pytest.approx(np.mean(np.expm1(change_V[drawn]) - change_V[drawn]))


async def test_several_steps_that_went_too_far_together_are_taken_back_together(world):
    await world.converse(8)
    updater = world.updater(steps=4, learning_rate=0.3, warmup_steps=0, max_kl=0.05)
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    (status,) = read_status(world.folder / "learning.db")
    metrics = status.last_update.metrics
    assert metrics["shortened"] >= 1
    assert world.trainer.calls.count("optim_step") == 4 * (metrics["shortened"] + 1)
    moved = np.abs(world.trainer.logits(None) - world.trainer.saved[version.state_path]).max()
    assert moved <= 4 * metrics["learning_rate"] + 1e-9


def _drawn_tokens(folder: Path) -> list[int]:
    with TurnReader.open(folder / "turns.db") as reader:
        samples = [reader.sample(turn.id) for turn in reader.turns()]
    return [int(np.frombuffer(sample.tokens, "<i4")[0]) for sample in samples if sample is not None]


async def test_after_a_refusal_the_live_weights_are_dropped(world):
    updater = world.updater(max_kl=1e-12)
    await world.converse(8)
    assert isinstance(await updater.attempt("main"), Rejected)
    assert world.trainer.num_open == 0


@pytest.mark.parametrize("call", ["forward_backward", "optim_step", "forward", "save", "warm"])
async def test_a_trainer_that_fails_costs_nothing_but_time(world, call):
    """PITFALLS R8: after a failure the remote weights had changed, the step was counted, and the drift was silent."""
    await world.converse(8)
    updater = world.updater()
    world.trainer.failures[call] = BackendError("gone")
    with pytest.raises(BackendError):
        await updater.attempt("main")
    assert world.states() == {"pending": 8}
    assert world.learning.serving("main") == 0
    assert world.trainer.num_open == 0, "weights of an unknown state were kept"
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert version.version == 1


async def test_a_trainer_that_is_down_leaves_no_trace_in_the_journal(world):
    await world.converse(8)
    world.trainer.failures["open"] = BackendError("down")
    with pytest.raises(BackendError):
        await world.updater().attempt("main")
    assert read_status(world.folder / "learning.db")[0].last_update is None


async def test_data_that_the_trainer_refuses_is_given_up_instead_of_tried_for_ever(world):
    await world.converse(8)
    world.trainer.failures["forward_backward"] = RefusedDataError("longer than the context")
    updater = world.updater()
    assert isinstance(await updater.attempt("main"), Rejected)
    assert world.states() == {"rejected": 8}
    await world.converse(8)
    assert isinstance(await updater.attempt("main"), Version)


async def test_a_version_that_the_gate_refuses_is_not_served_and_its_files_go(world):
    await world.converse(8)
    world.gate.answers["main"] = "it only repeats itself"
    updater = world.updater()
    rejected = await updater.attempt("main")
    assert rejected == Rejected(update_id=1, reason="it only repeats itself")
    (examined,) = world.gate.examined
    assert (examined.parent_path, len(examined.turns)) == (None, 8)
    assert examined.path not in world.trainer.saved
    assert world.trainer.saved == {}
    assert world.trainer.num_open == 0, "weights that took the refused step were kept"
    (status,) = read_status(world.folder / "learning.db")
    assert (status.serving, status.num_versions, status.pending) == (0, 0, 0)
    assert status.last_update.metrics["gate/kl"] == 0.01
    assert world.states() == {"rejected": 8}
    await world.converse(8)
    assert isinstance(await updater.attempt("main"), Version)


async def test_while_the_gate_cannot_examine_nothing_is_served_and_nothing_is_lost(world):
    await world.converse(8)
    world.gate.answers["main"] = GateWaitsError("the judge is down")
    updater = world.updater()
    with pytest.raises(BackendError, match="the judge is down"):
        await updater.attempt("main")
    assert world.states() == {"pending": 8}
    assert world.learning.serving("main") == 0
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert set(world.trainer.saved) == {version.state_path, version.sampler_path}, "unexamined weights were kept"


async def test_an_agent_that_is_pinned_or_rests_is_not_updated_and_its_samples_wait(world):
    await world.converse(8)
    world.holds.hold("main", "pin", "I like it as it is")
    assert await world.updater().attempt("main") == Waiting(reason="pin: I like it as it is")
    assert world.states() == {"pending": 8}
    assert world.trainer.calls == []
    world.holds.hold("main", "cooldown", "it got worse", for_s=10)
    assert world.holds.release("main", "pin")
    assert await world.updater().attempt("main") == Waiting(reason="cooldown: it got worse")
    world.holds.hold("main", "cooldown", "it got worse", for_s=0)
    assert isinstance(await world.updater().attempt("main"), Version)


async def test_an_examination_that_was_interrupted_goes_on_without_training_again(world):
    await world.converse(8)
    updater = world.updater()
    await _interrupted(world, updater)
    assert world.states() == {"pending": 8}
    assert world.trainer.num_open == 0
    (first,) = world.gate.examined
    await first.finished.once("pair", 0, _answer)
    await world.converse(8)  # which has no part in it: what it was made of stands
    world.trainer.calls.clear()
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert "forward_backward" not in world.trainer.calls
    assert world.gate.examined[-1].path == first.path == version.sampler_path
    assert len(world.gate.examined[-1].finished) == 1, "what was drawn before is not known any more"
    assert world.states() == {"consumed": 8, "pending": 8}
    assert set(world.trainer.saved) == {version.state_path, version.sampler_path}
    following = await updater.attempt("main")
    assert (following.version, following.parent) == (2, 1), "and training goes on from there"


@pytest.mark.parametrize("change", ["another version serves", "a sample is gone", "the learner ends"])
async def test_what_was_interrupted_is_given_up_when_what_it_was_made_of_has_changed(world, change: str):
    updater = world.updater()
    for _ in range(2):
        await world.converse(8)
        await updater.attempt("main")
    await world.converse(8)
    kept = set(world.trainer.saved)
    await _interrupted(world, updater)
    assert set(world.trainer.saved) > kept
    if change == "another version serves":
        roll_back(world.learning, "main")
    elif change == "a sample is gone":
        world.learning.expire([world.learning.pending("main")[0].turn], "not_recorded")
    else:
        await updater.close()
        assert set(world.trainer.saved) == kept
        return
    await world.converse(8)
    world.trainer.calls.clear()
    version = await updater.attempt("main")
    assert "forward_backward" in world.trainer.calls
    assert set(world.trainer.saved) == kept | {version.state_path, version.sampler_path}


async def _interrupted(world, updater) -> None:
    world.gate.is_slow = True
    world.gate.began.clear()
    task = asyncio.create_task(updater.attempt("main"))
    await world.gate.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    world.gate.is_slow = False


async def _answer() -> str:
    return "drawn"


async def test_being_stopped_in_the_middle_gives_the_samples_back(world):
    await world.converse(8)
    updater = world.updater()
    task = asyncio.create_task(updater.attempt("main"))
    world.trainer.when["forward_backward"] = task.cancel
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sum(world.states().values()) == 8
    assert world.states().get("claimed", 0) == 0


async def test_a_rollback_during_an_update_wins_and_the_next_update_starts_there(world):
    updater = world.updater()
    for _ in range(2):
        await world.converse(8)
        await updater.attempt("main")
    await world.converse(8)
    world.trainer.when["warm"] = lambda: roll_back(world.learning, "main")
    with pytest.raises(ConflictError):
        await updater.attempt("main")
    assert world.learning.serving("main") == 1
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    assert (version.version, version.parent) == (3, 1)
    assert [listed.is_serving for listed in list_versions(world.learning, "main")] == [False, False, True]


def numbers_of(paths: Iterable[str]) -> set[int]:
    return {int(match[1]) for path in paths if (match := re.search(r"-v(\d+)-", path))}


async def test_only_the_last_versions_and_the_ancestors_of_what_serves_keep_their_weights(world):
    updater = world.updater()
    for _ in range(6):
        await world.converse(8)
        await updater.attempt("main")
    assert numbers_of(world.trainer.saved) == {3, 4, 5, 6}
    assert len(world.trainer.saved) == 2 * 4
    roll_back(world.learning, "main", 3)
    await world.converse(8)
    version = await updater.attempt("main")
    assert (version.version, version.parent) == (7, 3)
    assert numbers_of(world.trainer.saved) == {3, 5, 6, 7}
    listed = world.learning.versions("main")
    assert [one.version for one in listed if one.deleted_at is None] == [3, 5, 6, 7]
    with pytest.raises(ConflictError, match="version 2 of 'main' were deleted"):
        roll_back(world.learning, "main", 2)
    assert world.learning.serving("main") == 7


async def test_deleting_that_fails_fails_no_update_and_is_made_up_for(world, caplog):
    updater = world.updater()
    for _ in range(6):
        await world.converse(8)
        world.trainer.failures["delete"] = BackendError("gone")
        assert isinstance(await updater.attempt("main"), Version)
    assert numbers_of(world.trainer.saved) == {1, 2, 3, 4, 5, 6}
    assert "4 old checkpoints are still to be deleted: gone" in caplog.text
    await world.converse(8)
    await updater.attempt("main")
    assert numbers_of(world.trainer.saved) == {4, 5, 6, 7}


async def test_what_an_update_saved_that_did_not_commit_is_deleted(world):
    updater = world.updater()
    await world.converse(8)
    world.trainer.failures["warm"] = BackendError("gone")
    with pytest.raises(BackendError):
        await updater.attempt("main")
    (orphan,) = {path for path in world.trainer.saved if "/weights/" in path}
    version = await updater.attempt("main")
    assert set(world.trainer.saved) == {version.state_path, version.sampler_path}
    assert orphan not in world.trainer.saved


async def test_there_is_nothing_before_the_base_model(world):
    with pytest.raises(ConflictError):
        roll_back(world.learning, "main")
    await world.converse(8)
    await world.updater().attempt("main")
    assert roll_back(world.learning, "main") == 0
    history = world.learning._connection.execute("SELECT version, why FROM serving_history ORDER BY id").fetchall()
    assert [tuple(row) for row in history] == [(1, "update 1"), (0, "rollback from 1: asked for by the user")]


async def test_equal_rewards_make_no_update(world):
    """PITFALLS R4: steps without a gradient were counted."""
    await world.converse(8, rewards=[0.5])
    outcome = await world.updater().attempt("main")
    assert isinstance(outcome, Waiting)
    assert world.states() == {"pending": 8}


async def test_the_baseline_counts_each_reward_once_whatever_fails_on_the_way(world):
    await world.converse(8, rewards=[0.0, 1.0])
    updater = world.updater()
    for call in ("save", "warm"):
        world.trainer.failures[call] = BackendError("gone")
        with pytest.raises(BackendError):
            await updater.attempt("main")
    assert world.learning.baseline("main") is None
    await updater.attempt("main")
    baseline = world.learning.baseline("main")
    assert baseline is not None
    assert (baseline.value, baseline.num_rewards) == (0.5, 8)
