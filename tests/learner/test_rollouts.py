"""Several answers to one prompt, drawn inside an update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.config import UpdateSettings
from metaclaw.errors import BackendError, JudgeError
from metaclaw.learner.advantages.group import within_group
from metaclaw.learner.gate.answers import Drawn, RefusedPromptError
from metaclaw.learner.gate.questions import Question
from metaclaw.learner.judges.judge import Exchange, Verdict
from metaclaw.learner.rollouts import Rollouts

pytestmark = pytest.mark.anyio


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=16))
def test_a_group_sums_to_zero_and_equal_rewards_teach_nothing(rewards):
    advantages = within_group(rewards)
    assert math.fsum(advantages) == pytest.approx(0, abs=1e-9)
    assert len(advantages) == len(rewards)
    if len(set(rewards)) == 1:
        assert not any(advantages)
    else:
        differences = [one - other for one, other in pairwise(rewards)]
        found = [one - other for one, other in pairwise(advantages)]
        assert found == pytest.approx(differences, abs=1e-12), "a reward counts what it counts in every group"


@dataclass
class World:
    """``said`` are the scores of the answers to each prompt in order; ``None`` has no opinion, an error fails."""

    said: dict[str, list[float | Exception | None]]
    asked: list[tuple[str | None, tuple[int, ...]]] = field(default_factory=list)
    judged: list[Exchange] = field(default_factory=list)
    name: str = "numbers"
    needs_followup: bool = True
    refuses: str = ""
    cold: str = ""

    def of_turns(self, turns: Sequence[str]) -> list[Question]:
        return [
            Question(
                exchange=Exchange(
                    id=turn, agent="main", session="s", turn_ids=(turn,), prompt=turn, answer="as recorded",
                    messages=(), finish_reason="stop", followup="thanks", feedback=1.0,
                ),
                prompt=tuple(turn.encode()), temperature=0.0 if turn == self.cold else 0.7, max_tokens=5,
            )
            for turn in turns
        ]  # fmt: skip

    async def draw(self, weights, prompt, *, temperature, max_tokens, seed) -> Drawn:
        assert (temperature, max_tokens) == (0.7, 5)
        if bytes(prompt).decode() == self.refuses:
            raise RefusedPromptError("too long")
        self.asked.append((weights, tuple(prompt)))
        return Drawn(tokens=(seed, 9), text=str(seed), finish_reason="stop")

    async def score(self, weights, prompt, answer) -> tuple[float, ...]:
        raise NotImplementedError

    async def judge(self, exchange: Exchange) -> Verdict:
        self.judged.append(exchange)
        said = self.said[exchange.prompt][int(exchange.answer) % 2]
        if isinstance(said, Exception):
            raise said
        return Verdict(score=said)

    def rollouts(self, **settings) -> Rollouts:
        own = UpdateSettings(advantage="group", group_size=2, **settings)
        seeds = iter(range(100))
        return Rollouts(questions=self, drawer=self, judge=self, settings=own, new_seed=lambda: next(seeds))


async def test_each_answer_is_held_against_the_others_to_its_prompt_and_judged_without_what_came_after():
    world = World({"a": [1.0, -1.0], "b": [0.5, 0.5], "c": [1.0, None], "d": [0.0, JudgeError("no")], "e": [1, 0]})
    rolled = await world.rollouts().draw("tinker://w", ["a", "b", "c", "d", "e"])
    assert [(one.prompt, one.advantage) for one in rolled.answers] == [
        (tuple(b"a"), 1.0), (tuple(b"a"), -1.0), (tuple(b"e"), 0.5), (tuple(b"e"), -0.5),
    ]  # fmt: skip
    assert {one.temperature for one in rolled.answers} == {0.7}
    assert {weights for weights, _ in world.asked} == {"tinker://w"}
    assert all((one.followup, one.feedback) == (None, None) for one in world.judged)
    assert rolled.numbers == {
        "rollouts": 10, "rollout_groups": 5, "rollout_groups_equal": 1, "rollout_groups_unjudged": 2,
        "rollouts_trained": 4,
    }  # fmt: skip


async def test_no_more_is_drawn_than_the_cap_says_and_only_whole_groups():
    world = World({name: [1.0, 0.0] for name in "abcde"})
    await world.rollouts(max_rollouts=7).draw(None, list("abcde"))
    assert [prompt for _, prompt in world.asked] == [tuple(name.encode()) for name in "aabbcc"]


async def test_a_prompt_that_was_answered_too_cold_to_be_trained_on_is_not_asked_again():
    """The trainer takes no loss at temperature 0, and would have refused the whole update, recorded turns and all."""
    world = World({name: [1.0, 0.0] for name in "ab"}, cold="a")
    rolled = await world.rollouts(max_rollouts=2).draw(None, ["a", "b"])
    assert {one.prompt for one in rolled.answers} == {tuple(b"b")}


async def test_a_prompt_that_is_refused_costs_its_group_and_a_server_that_is_away_the_draw():
    world = World({name: [1.0, 0.0] for name in "ab"}, refuses="a")
    assert {one.prompt for one in (await world.rollouts().draw(None, ["a", "b"])).answers} == {tuple(b"b")}

    async def away(*_, **__):
        raise BackendError("away")

    world.draw = away
    with pytest.raises(BackendError, match="away"):
        await world.rollouts().draw(None, ["a", "b"])
