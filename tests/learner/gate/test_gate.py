"""The examination of a version, over a policy whose answers are known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.config import GateSettings
from metaclaw.errors import BackendError, JudgeError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.gate.answers import Drawn, RefusedPromptError
from metaclaw.learner.gate.examination import GateWaitsError, NewWeights
from metaclaw.learner.gate.gate import AT_ONCE, Gate
from metaclaw.learner.gate.questions import Question, Questions
from metaclaw.learner.judges.judge import Exchange, JudgeUnavailableError, NoOpinionError
from tests.learner.recording import Said, policy_sample, record

pytestmark = pytest.mark.anyio

SETTINGS = GateSettings(min_exchanges=4, max_replays=64)


def new() -> NewWeights:
    return NewWeights(agent="main", update_id=7, parent_path="old", path="new", turns=("t1",))


def question(name: str) -> Question:
    exchange = Exchange(
        id=name, agent="main", session="s", turn_ids=(name,), prompt="Say a number.", answer="", messages=(),
        finish_reason="stop",
    )  # fmt: skip
    return Question(exchange=exchange, prompt=(1, 2, 3), temperature=1.0, max_tokens=20)


@dataclass
class Source:
    held: int = 8
    trained: int = 4

    def held_out(self, agent: str) -> list[Question]:
        return [question(f"h{number}") for number in range(self.held)]

    def of_turns(self, turns: Sequence[str]) -> list[Question]:
        return [question(f"t{number}") for number in range(self.trained)]


@dataclass
class Policy:
    """Answers with ten numbers drawn by the seed; the new version says what ``new`` makes of them."""

    new: Callable[[str, Random], str] = lambda said, chance: said
    asked: list[tuple[str | None, int]] = field(default_factory=list)
    failure: Exception | None = None

    async def draw(self, weights, prompt, *, temperature, max_tokens, seed) -> Drawn:
        await asyncio.sleep(0)
        self.asked.append((weights, seed))
        if self.failure:
            raise self.failure
        said = " ".join(Random(seed).choices(["one", "two", "three", "four", "five", "six", "seven", "eight"], k=10))
        text = self.new(said, Random(-seed)) if weights == "new" else said
        return Drawn(tokens=tuple(hash(word) % 1000 for word in text.split()), text=text, finish_reason="stop")

    async def score(self, weights, prompt, answer) -> tuple[float, ...]:
        return (-1.0,) * len(answer)


@dataclass
class Judged:
    """Prefers by ``rule`` over two texts; counts what it is asked."""

    rule: Callable[[str, str], float]
    name: str = "rule"
    asked: list[tuple[Exchange, Exchange]] = field(default_factory=list)

    async def prefer(self, one: Exchange, other: Exchange) -> float:
        self.asked.append((one, other))
        return self.rule(one.answer, other.answer)


def more_of(word: str) -> Callable[[str, str], float]:
    return lambda one, other: (one.count(word) > other.count(word)) - (one.count(word) < other.count(word))


def gate(policy: Policy, judge: Judged, source: Source | None = None, **changes) -> Gate:
    changed = SETTINGS.model_copy(update=changes)
    return Gate(questions=source or Source(), drawer=policy, judge=judge, settings=changed)


async def test_a_version_that_answers_as_before_passes_without_a_single_judgement():
    policy, judge = Policy(), Judged(more_of("one"))
    examined = await gate(policy, judge).examine(new())
    assert examined.refused is None
    assert judge.asked == [], "equal answers were judged"
    assert examined.numbers["gate/mean_difference"] == 0
    assert examined.numbers["gate/kl"] == 0
    seeds = {seed: {weights for weights, other in policy.asked if other == seed} for _, seed in policy.asked}
    assert all(weights == {"old", "new"} for weights in seeds.values()), "both are drawn with the same seed"


async def test_a_version_that_is_worse_is_refused_with_few_judgements():
    policy = Policy(new=lambda said, chance: said.replace("one", "two"))
    judge = Judged(lambda one, other: more_of("one")(one, other))
    examined = await gate(policy, judge).examine(new())
    assert examined.refused is not None
    assert "worse than the serving version" in examined.refused
    assert "rl.gate.margin" in examined.refused
    assert examined.numbers["gate/judged"] < SETTINGS.max_replays


async def test_the_end_of_the_budget_is_no_evidence():
    policy, judge = Policy(new=lambda said, chance: said[::-1]), Judged(lambda one, other: 0.0)
    small = await gate(policy, judge, max_replays=8, min_answers=8).examine(new())
    assert small.refused is not None
    assert "replay budget is used up" in small.refused
    torn = Judged(lambda one, other: 1.0 if len(torn.asked) % 2 else -1.0)
    few = await gate(policy, torn, max_tokens=1).examine(new())
    assert few.refused is not None
    assert few.numbers["gate/judged"] == SETTINGS.min_answers, "the first answers are drawn, no more"


async def test_a_version_over_a_limit_is_refused_before_anything_is_judged():
    judge = Judged(lambda one, other: 1.0)
    examined = await gate(Policy(new=lambda said, chance: ""), judge).examine(new())
    assert examined.refused is not None
    assert "rl.gate.max_empty_rise" in examined.refused
    assert judge.asked == []


async def test_with_too_few_held_out_exchanges_the_limits_alone_decide_and_that_is_recorded():
    judge = Judged(lambda one, other: -1.0)
    worse = Policy(new=lambda said, chance: said.replace("one", "two"))
    examined = await gate(worse, judge, Source(held=3)).examine(new())
    assert examined.refused is None
    assert examined.numbers["gate/note"] == ("not enough held-out exchanges: 3 of 4; the limits alone decide")
    assert examined.numbers["gate/answers"] == 32, "the prompts that it was trained on stand in"
    silent = await gate(Policy(new=lambda said, chance: ""), judge, Source(held=0)).examine(new())
    assert silent.refused is not None
    unknown = await gate(worse, judge, Source(held=0, trained=0)).examine(new())
    assert unknown.refused is not None


async def test_without_a_judge_a_version_waits_and_never_passes():
    different = Policy(new=lambda said, chance: said[::-1])

    def down(one: str, other: str) -> float:
        raise JudgeUnavailableError("gone")

    def confused(one: str, other: str) -> float:
        raise JudgeError("no verdict")

    for rule in (down, confused):
        with pytest.raises(GateWaitsError):
            await gate(different, Judged(rule)).examine(new())
    with pytest.raises(BackendError):
        await gate(Policy(failure=BackendError("server gone")), Judged(more_of("one"))).examine(new())


async def test_some_pairs_that_cannot_be_compared_are_counted_and_count_for_nothing():
    chance = Random(3)

    def sometimes(one: str, other: str) -> float:
        if chance.random() < 0.3:
            raise JudgeError("no verdict")
        return 0.0

    examined = await gate(Policy(new=lambda said, chance: said[::-1]), Judged(sometimes)).examine(new())
    assert examined.refused is None
    assert 0 < examined.numbers["gate/void"] < examined.numbers["gate/judged"]


async def test_a_judge_that_has_no_opinion_of_most_exchanges_decides_by_the_others():
    """A verifier that checks sums alone: no version of its agent was ever served, and one was trained every five
    minutes."""
    sums = {"h0", "h1"}

    class Sums(Judged):
        async def prefer(self, one: Exchange, other: Exchange) -> float:
            if one.id not in sums:
                raise NoOpinionError("no opinion")
            return await super().prefer(one, other)

    def reversed_answers(said: str, chance: Random) -> str:
        return said[::-1]

    examined = await gate(Policy(new=reversed_answers), Sums(lambda one, other: 0.0)).examine(new())
    assert examined.refused is None
    assert examined.numbers["gate/no_opinion"] > examined.numbers["gate/judged"] > 0
    examined = await gate(Policy(new=reversed_answers), Sums(lambda one, other: -1.0)).examine(new())
    assert "worse" in examined.refused
    sums.clear()
    examined = await gate(Policy(new=reversed_answers), Sums(lambda one, other: 0.0)).examine(new())
    assert "nothing shows that it is not worse" in examined.refused


async def test_prompts_that_cannot_be_asked_any_more_are_made_up_for_by_others_but_not_all_of_them():
    class Forgetful(Policy):
        async def draw(self, weights, prompt, *, temperature, max_tokens, seed) -> Drawn:
            if seed % 4 == 0:
                raise RefusedPromptError("too long by now")
            return await super().draw(weights, prompt, temperature=temperature, max_tokens=max_tokens, seed=seed)

    examined = await gate(Forgetful(), Judged(more_of("one"))).examine(new())
    assert examined.refused is None
    assert examined.numbers["gate/answers"] == SETTINGS.min_answers, "the limits are measured on as many as ever"
    with pytest.raises(GateWaitsError, match="all but 0 of 64 recorded prompts"):
        await gate(Policy(failure=RefusedPromptError("too long")), Judged(more_of("one"))).examine(new())


async def test_a_server_that_reads_hardly_any_prompt_any_more_is_no_reason_to_let_a_version_pass():
    """Where too few exchanges are held out the limits alone decide, and of one or two answers they say nothing."""

    class Forgetful(Policy):
        async def draw(self, weights, prompt, *, temperature, max_tokens, seed) -> Drawn:
            if seed % 32:
                raise RefusedPromptError("too long by now")
            return await super().draw(weights, prompt, temperature=temperature, max_tokens=max_tokens, seed=seed)

    with pytest.raises(GateWaitsError, match=r"all but [1-7] of 64 recorded prompts"):
        await gate(Forgetful(), Judged(more_of("one")), Source(held=0)).examine(new())


async def test_being_cancelled_ends_every_call_at_once():
    begun = asyncio.Event()
    running = 0

    class Stuck(Policy):
        async def draw(self, weights, prompt, *, temperature, max_tokens, seed) -> Drawn:
            nonlocal running
            running += 1
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                running -= 1
            raise AssertionError("never")

    task = asyncio.create_task(gate(Stuck(), Judged(more_of("one"))).examine(new()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running == 0


async def test_questions_are_held_out_answered_exchanges_of_the_newest_renderer(tmp_path):
    settings = GateSettings(held_out_share=0.5)
    with LearningJournal.open(tmp_path / "learning.db") as learning:
        async with TurnJournal(tmp_path / "turns.db") as turns:
            for number in range(24):
                sample = policy_sample([7, number], renderer="old" if number < 4 else "new", temperature=0.5)
                await record(
                    turns, Said(turn=f"t{number}", exchange=f"ex-{number}-1", session=str(number), sample=sample)
                )
            await record(turns, Said(turn="other", exchange="ex-0-9", agent="other", session="o"))
            await record(turns, Said(turn="calls", exchange="ex-99-1", session="c", finish_reason="tool_calls"))
        questions = Questions(tmp_path / "turns.db", learning, settings, clock=lambda: 0.0)
        found = questions.held_out("main")
        assert 4 <= len(found) <= 16
        assert all(one.prompt[1] >= 4 and one.temperature == 0.5 for one in found)
        assert found[0].prompt[1] > found[-1].prompt[1], "the newest first"
        assert found[0].exchange.prompt == "hello"
        (trained,) = questions.of_turns(["t5"])
        assert trained.prompt == (7, 5)
        assert Questions(tmp_path / "none.db", learning, settings).held_out("main") == []


@given(stopped_at=st.lists(st.integers(1, 300), max_size=3))
@settings(max_examples=20, deadline=None)
async def test_an_examination_that_was_interrupted_goes_on_where_it_was(stopped_at: list[int]) -> None:
    """The user came back, as often as they like: what was drawn, scored and judged is not asked for again."""
    policy = Policy(new=lambda said, chance: said.replace("one", chance.choice(["one", "two"])))
    whole = await gate(policy, Judged(more_of("one"))).examine(new())
    calls, judge, candidate = list(policy.asked), Judged(more_of("one")), new()
    policy.asked.clear()
    for number in stopped_at:
        await _stopped_after(number, gate(policy, judge), candidate)
    assert await gate(policy, judge).examine(candidate) == whole
    again = len(policy.asked) - len(calls)
    assert again <= len(stopped_at) * 2 * AT_ONCE, "no more than what was on its way"
    assert set(policy.asked) == set(calls)


async def _stopped_after(number_of_steps: int, examining: Gate, candidate: NewWeights) -> None:
    task = asyncio.create_task(examining.examine(candidate))
    for _ in range(number_of_steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
