"""Updates that a teacher has a part in: what it adds, and what becomes of them when it fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from metaclaw.journal.learning_records import Version
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.lessons import lessons_of
from metaclaw.journal.opinions import LateFeedback, OpinionBook
from metaclaw.journal.turns import TurnReader
from metaclaw.learner.datums import TrainingTurn
from metaclaw.learner.distillation.endpoint import TeacherError
from metaclaw.learner.distillation.lessons import Lesson, Likeliest
from metaclaw.learner.distillation.teaching import Teaching
from metaclaw.learner.gate.steps import StepLimits
from metaclaw.learner.outcomes import Rejected, Waiting
from tests.fakes.trainer import VOCABULARY, log_softmax
from tests.learner.update_world import opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as world:
        yield world


@dataclass
class Taste:
    """A teacher who prefers one token to all others; it says nothing of turns in ``deaf``, and fails where told."""

    likes: int
    failure: Exception | None = None
    deaf: bool = False
    limits: StepLimits | None = None
    meanwhile: Callable[[], object] = list  # what happens while it is asked, once
    lists: int = 0  # so many of its likeliest tokens are learned
    logprobs_V: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.logprobs_V = log_softmax(np.where(np.arange(VOCABULARY) == self.likes, 3.0, 0.0), 1.0).astype(np.float32)

    async def lesson(self, agent: str, turns: Sequence[TrainingTurn], *, weights: str | None) -> Lesson:
        assert agent == "main"
        if self.failure is not None:
            raise self.failure
        self.meanwhile()
        self.meanwhile = list
        drawn = {turn.turn: np.frombuffer(turn.sample.tokens, "<i4") for turn in turns}
        taught = {} if self.deaf else {turn: self.logprobs_V[tokens] for turn, tokens in drawn.items()}
        numbers = {"opd/taught_turns": float(len(taught)), "opd/untaught_turns": float(len(turns) - len(taught))}
        return Lesson(
            method="opd", teacher="taste", weight=1.0, max_gap=5.0, taught=taught, limits=self.limits,
            numbers={**numbers, "opd/teacher_usd": 0.5},
            likeliest={turn: self._likeliest for turn in taught if self.lists},
        )  # fmt: skip

    @property
    def _likeliest(self) -> Likeliest:
        listed = np.argsort(-self.logprobs_V)[None, : self.lists]
        return Likeliest(tokens_NK=listed, logprobs_NK=self.logprobs_V[listed])


def metrics_of(world) -> dict:
    return read_status(world.folder / "learning.db")[0].last_update.metrics


@pytest.mark.parametrize("lists", [0, 4])
async def test_the_policy_comes_nearer_to_its_teacher_without_any_reward_that_differs(world, lists: int):
    taste = Taste(likes=5, lists=lists)
    updater = world.updater(teaching=Teaching([taste]), methods=("opd",), learning_rate=0.15, max_kl=1.0)
    distances = list[float]()
    for _ in range(12):
        await world.converse(16, rewards=[0.0])
        version = await updater.attempt("main")
        assert isinstance(version, Version)
        policy_V = log_softmax(world.trainer.saved[version.sampler_path], 1.0)
        distances.append(float(np.sum(np.exp(policy_V) * (policy_V - taste.logprobs_V))))
    assert distances[-1] < distances[0] / 2, distances


async def test_what_a_teacher_did_is_among_the_numbers_and_in_the_documentation(world):
    await world.converse(8)
    await world.updater(teaching=Teaching([Taste(likes=5)]), methods=("rewards", "opd")).attempt("main")
    metrics = metrics_of(world)
    page = (Path(__file__).parents[3] / "docs" / "updates.md").read_text()
    for name in ("taught_turns", "untaught_turns", "taught_tokens", "kl", "gap", "cut_share", "teacher_usd"):
        assert isinstance(metrics[f"opd/{name}"], float), name
        assert f"`opd/{name}`" in page or f"`{name}`" in page, name


async def test_a_teacher_that_is_away_delays_the_update_and_leaves_no_trace(world):
    """PITFALLS R10: without its teacher a sample was trained on as if there were none."""
    taste = Taste(likes=5, failure=TeacherError("away"))
    updater = world.updater(teaching=Teaching([taste]), methods=("rewards", "opd"))
    await world.converse(8)
    with pytest.raises(TeacherError, match="away"):
        await updater.attempt("main")
    assert (world.states(), read_status(world.folder / "learning.db")[0].last_update) == ({"pending": 8}, None)
    taste.failure = None
    assert isinstance(await updater.attempt("main"), Version)


async def test_what_no_teacher_takes_is_learned_from_by_its_rewards_or_given_up_by_name(world):
    await world.converse(8)
    deaf = Teaching([Taste(likes=5, deaf=True)])
    assert isinstance(await world.updater(teaching=deaf, methods=("opd",)).attempt("main"), Waiting)
    assert world.learning.expired("main") == {"untaught": 8}
    await world.converse(8)
    assert isinstance(await world.updater(teaching=deaf, methods=("rewards", "opd")).attempt("main"), Version)
    assert metrics_of(world)["opd/untaught_turns"] == 8
    await world.converse(8, rewards=[world.learning.baseline("main").value])
    waiting = await world.updater(teaching=deaf, methods=("rewards", "opd"), baseline_decay=0.0).attempt("main")
    assert isinstance(waiting, Waiting), "a step by a gradient of nothing goes where the last ones went"


@pytest.mark.parametrize("lists", [0, 4])
async def test_what_a_teacher_said_of_each_turn_and_what_that_moved_is_kept_with_the_update(world, lists: int):
    await world.converse(8, temperature=0.5)
    before_V = log_softmax(world.trainer.logits(None), 1.0)
    taste = Taste(likes=5, lists=lists)
    updater = world.updater(teaching=Teaching([taste]), methods=("opd",), learning_rate=0.1, max_kl=1.0)
    version = await updater.attempt("main")
    assert isinstance(version, Version)
    cold_V = [log_softmax(world.trainer.logits(path), 0.5) for path in (None, version.state_path)]
    with TurnReader.open(world.folder / "turns.db") as reader:
        drawn = {turn.id: np.frombuffer(reader.sample(turn.id).tokens, "<i4") for turn in reader.turns()}
    liked = set(np.argsort(-taste.logprobs_V)[:lists]) if lists else set(range(VOCABULARY))
    for turn, (token,) in drawn.items():
        (kept,) = lessons_of(world.learning._connection, turn)
        assert (kept.method, kept.teacher, kept.state, kept.version) == ("opd", "taste", "committed", 1)
        assert kept.change == pytest.approx(cold_V[1][token] - cold_V[0][token], abs=1e-5)
        if token in liked:
            assert kept.num_tokens == 1
            assert kept.gap == pytest.approx(taste.logprobs_V[token] - before_V[token], abs=1e-5)
        else:
            assert (kept.num_tokens, kept.gap) == (0, None), "the teacher's list does not have it"


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"max_kl": 1e-6}, r"over rl\.self_distillation\.max_kl \(1e-06\)"),
        ({"max_kl": 9.0, "max_entropy_change": 0.001}, r"by more than rl\.self_distillation\.max_entropy_change"),
    ],
)
async def test_limits_of_a_lesson_hold_for_its_updates_alone(world, limits, why):
    taste = Taste(likes=5, limits=StepLimits(section="rl.self_distillation", **limits))
    updater = world.updater(teaching=Teaching([taste]), methods=("rewards", "opd"), learning_rate=1.0, max_kl=9.0)
    await world.converse(16)
    refused = await updater.attempt("main")
    assert isinstance(refused, Rejected)
    assert re.search(why, refused.reason), refused.reason
    assert metrics_of(world)["shortened"] == 2, "a shorter step was tried"
    assert world.learning.serving("main") == 0
    rows = world.learning._connection.execute("SELECT turn FROM lessons").fetchall()
    assert len(rows) == 16
    (kept,) = lessons_of(world.learning._connection, rows[0][0])
    assert (kept.state, kept.version, kept.change) == ("rejected", None, None), "nothing moved"
    taste.deaf = True
    await world.converse(16)
    assert isinstance(await updater.attempt("main"), Version), "nothing was taught"


@pytest.mark.parametrize("limits", [None, StepLimits(section="rl.self_distillation", max_kl=0.05)])
async def test_an_update_that_died_while_its_step_was_made_shorter_is_made_anew_as_if_nothing_had_been(
    tmp_path, limits
):
    """How often and how far a step is shortened follows from the update's data alone, so nothing of it is kept."""
    versions, metrics = list[Version](), list[dict]()
    for folder in (tmp_path / "undisturbed", tmp_path / "killed"):
        async with opened(folder) as world:
            lesson = Taste(likes=5, limits=limits)
            changes = {"learning_rate": 0.9, "warmup_steps": 0, "max_kl": 9.0 if limits else 0.05}
            await world.converse(8, rewards=[0.0])
            if folder.name == "killed":
                # At the second opening: the step went too far, and is to be taken back.
                world.trainer.when["optim_step"] = lambda t=world.trainer: t.failures.update(open=SystemExit("killed"))
                dying = world.updater(teaching=Teaching([lesson]), methods=("opd",), **changes)
                with pytest.raises(SystemExit):
                    await dying.attempt("main")
                world.learning.recover()
            updater = world.updater(teaching=Teaching([lesson]), methods=("opd",), **changes)
            version = await updater.attempt("main")
            assert isinstance(version, Version)
            versions.append(version)
            metrics.append(metrics_of(world))
            weights = world.trainer.saved[version.state_path]
            assert np.abs(world.trainer.logits(None) - weights).max() <= metrics[-1]["learning_rate"] + 1e-9
    assert metrics[0]["shortened"] >= 1
    assert [(one["shortened"], one["learning_rate"], one["kl"]) for one in metrics[1:]] == [
        (metrics[0]["shortened"], metrics[0]["learning_rate"], metrics[0]["kl"])
    ]
    assert [version.version for version in versions] == [1, 1]


async def test_what_a_person_says_while_a_teacher_is_asked_counts_and_the_old_reward_is_not_trained_on(world):
    book = OpinionBook.open(world.folder / "learning.db", clock=lambda: 0.0)
    late = LateFeedback(feedback=1, exchange="xn0", agent="main", score=-1.0, decides=True)
    taste = Taste(likes=5, meanwhile=lambda: book.revise(late))
    updater = world.updater(teaching=Teaching([taste]), methods=("rewards", "opd"))
    await world.converse(8, rewards=[1.0, 0.0])
    waiting = await updater.attempt("main")
    book.close()
    assert isinstance(waiting, Waiting)
    assert "1 of 8 samples of 'main' have another reward" in waiting.reason
    assert (world.states(), world.learning.serving("main")) == ({"pending": 8}, 0)
    assert read_status(world.folder / "learning.db")[0].last_update is None
    assert isinstance(await updater.attempt("main"), Version)
    assert metrics_of(world)["reward_mean"] == pytest.approx((3 - 1) / 8)
