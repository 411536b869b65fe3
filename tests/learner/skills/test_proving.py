"""Trials: replayed in pairs, judged blind, adopted on evidence alone."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from metaclaw.errors import SkillError, UpstreamError
from metaclaw.journal.skill_records import BaseSkill, Candidate, Evolution, NewCandidate
from metaclaw.learner.skills.shelf import Shelf
from metaclaw.recall.blocks import human_messages
from metaclaw.recall.sizes import CountedSizes
from metaclaw.skills.skill import read_skill
from metaclaw.skills.trial.arms import is_served
from metaclaw.skills.writer import SkillWriter
from tests.learner.recording import Said, record
from tests.learner.skills.worlds import NOW, ScriptedAnswerer, World
from tests.learner.skills.worlds import world as make_world

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path):
    async with make_world(tmp_path) as made:
        yield made


async def said(world: World, name: str, number: int, **more) -> None:
    """Exchanges that fit a candidate."""
    for index in range(number):
        turn = f"{name}-{index}"
        await record(
            world.turns,
            Said(turn=turn, exchange=f"ex-{turn}-0", session=turn, opened_at=NOW - 100, sample=None,
                 human=f"Draw the {name} chart of port {index}", **more),
        )  # fmt: skip


async def run(world: World, name: str, answerer: ScriptedAnswerer, *, steps: int = 200, seed: int = 0) -> Candidate:
    proving = world.proving(answerer, seed=seed)
    for _ in range(steps):
        if world.candidate(name).state != "trial" or not await proving.step():
            break
    return world.candidate(name)


def by_skill(chances: dict[str, float], *, usual: float, seed: int = 0) -> ScriptedAnswerer:
    """Right as often as the recalled skill makes it, as often as usual without one."""
    chance = random.Random(seed)

    def reply(text: str) -> str:
        recalled = re.findall(r"## Skill (\S+):", text)
        right = next((chances[name] for name in recalled if name in chances), usual)
        return "right" if chance.random() < right else "wrong"

    return ScriptedAnswerer(reply)


WORDS = [
    "amber",
    "birch",
    "cedar",
    "dune",
    "ember",
    "fjord",
    "grove",
    "heron",
    "islet",
    "juniper",
    "kelp",
    "larch",
    "moss",
    "nettle",
    "otter",
]
KINDS = {"helpful": (0.85, 0.9, 0.9, 0.95, 0.9), "neutral": (0.4,) * 5, "harmful": (0.0, 0.05, 0.0, 0.1, 0.05)}


async def test_of_five_helpful_five_neutral_and_five_harmful_skills_the_helpful_ones_are_adopted(world):
    """The acceptance of the issue through the whole path: recorded turns, replays, a verifier, files."""
    kinds = dict(zip(WORDS, [kind for kind, all_of in KINDS.items() for _ in all_of], strict=True))
    names = dict(zip(WORDS, [right for all_of in KINDS.values() for right in all_of], strict=True))
    world.propose(*names)
    for name in names:
        await said(world, name, 45)
    proving = world.proving(by_skill(names, usual=0.4), share=0.0)
    for _ in range(60):
        if not await proving.step():
            break
    adopted = [name for name in names if world.candidate(name).state == "adopted"]
    by_kind = [kinds[name] for name in adopted]
    assert by_kind.count("helpful") >= 4
    assert by_kind.count("harmful") == 0
    assert by_kind.count("neutral") <= 1  # 0.05 each
    assert sorted(path.parent.name for path in (world.folder / "main").glob("*/SKILL.md")) == sorted(adopted)
    with world.trials.reading() as reader:
        assert reader.generation("main") == len(adopted)


async def test_an_adopted_skill_says_who_wrote_it_and_from_which_turns(world):
    world.propose("tables")
    await said(world, "tables", 20)
    await run(world, "tables", by_skill({"tables": 1.0}, usual=0.0))
    skill = read_skill(world.folder / "main" / "tables", strict=True)
    assert skill.metadata["origin"] == "model"
    assert skill.metadata["turns"] == "t"
    assert "tables" in (await world.skills.visible("main")).by_name


async def test_the_judge_sees_the_answer_and_neither_the_arm_nor_what_was_recalled(world):
    world.propose("tables")
    await said(world, "tables", 3)
    answerer = by_skill({"tables": 1.0}, usual=0.0)
    await run(world, "tables", answerer, steps=3)
    assert sum("Skill tables" in text for text in answerer.asked) == 3
    assert sum("Skill tables" not in text for text in answerer.asked) == 3
    assert len(world.judge.seen) == 6
    for exchange in world.judge.seen:
        assert "Skill" not in str(exchange.messages)
        assert exchange.followup is None
    orders = {"Skill tables" in answerer.asked[index] for index in range(0, 6, 2)}
    assert orders == {True, False}  # with this seed; the order is drawn


async def test_what_it_was_written_for_and_what_chat_cannot_say_is_not_replayed(world):
    """Tried on the failures that it was written for, any skill that holds their answers would pass."""
    world.propose("tables")
    await record(
        world.turns,
        Said(turn="t1", exchange="failed", human="Draw the tables chart", opened_at=NOW - 9, sample=None),
        Said(turn="t2", exchange="x2", session="b", human="Draw the tables chart", opened_at=NOW - 9, sample=None,
             dialect="openai.responses", request={"previous_response_id": "r1"}),
    )  # fmt: skip
    answerer = by_skill({"tables": 1.0}, usual=0.0)
    candidate = await run(world, "tables", answerer)
    assert answerer.asked == []
    assert candidate.experiment is not None  # it goes on experiment instead


async def test_some_exchanges_that_it_does_not_fit_are_tried_too_and_harm_there_counts(world):
    world.propose("tables")
    await said(world, "tables", 30)
    for index in range(6):
        await record(
            world.turns,
            Said(turn=f"o{index}", exchange=f"o{index}", session=f"o{index}", human=f"Write poem {index} of autumn",
                 opened_at=NOW - 200, sample=None),
        )  # fmt: skip

    def reply(text: str) -> str:
        has_it = "Skill tables" in text
        if "poem" in text:
            return "wrong" if has_it else "right"
        return "right" if has_it or random.Random(text).random() < 0.6 else "wrong"

    candidate = await run(world, "tables", ScriptedAnswerer(reply))
    assert candidate.state == "rejected"
    assert "where it does not belong" in candidate.reason


async def test_an_outage_leaves_no_trace_and_a_refused_replay_says_nothing(world):
    world.propose("tables")
    await said(world, "tables", 3)
    answerer = by_skill({}, usual=1.0)
    answerer.error = UpstreamError("down", status=503)
    proving = world.proving(answerer)
    with pytest.raises(UpstreamError):
        await proving.step()
    with world.trials.reading() as reader:
        assert reader.comparisons("id-tables") == []
    answerer.error = UpstreamError("too long", status=400)
    assert await proving.step()
    with world.trials.reading() as reader:
        assert [one.void for one in reader.comparisons("id-tables")] == ["it could not be asked again: too long"]
    assert proving.verdict(world.candidate("tables")).num_observations == 0


async def test_a_replay_keeps_the_budget_as_the_policys_tokenizer_counts_it(world):
    class Counting:
        """For the policy, whose tokenizer has a token for each letter and more."""

        num_tokens = 10_000

        async def sizes(self, agent: str, texts: Sequence[str]) -> CountedSizes:
            assert agent == "main"
            return CountedSizes({text: self.num_tokens if "## Skill tables" in text else 1 for text in texts})

    world.propose("tables")
    await said(world, "tables", 3)
    answerer, counting = by_skill({}, usual=1.0), Counting()
    assert not await world.proving(answerer, measuring=counting, share=0.0).step()  # it would not be recalled
    counting.num_tokens = 100
    assert await world.proving(answerer, measuring=counting, share=0.0).step()
    assert sum("Skill tables" in text for text in answerer.asked) == 1


async def test_replays_are_limited(world):
    world.propose("tables")
    await said(world, "tables", 9)
    proving = world.proving(by_skill({}, usual=1.0), replays_per_hour=2)
    assert [await proving.step() for _ in range(3)] == [True, True, False]
    world.time[0] += 3601
    assert await proving.step()


async def test_where_nothing_can_be_replayed_both_arms_of_an_experiment_are_compared(world):
    """A message that is sent again is in the same arm, and counts once."""
    (candidate,) = world.propose("tables")
    proving = world.proving(None, trial=world.proving(None)._rule.trial, share=0.5)
    world.trials.begin_experiment(candidate.id, share=0.5, usual=0.0)
    arms = {True: 0, False: 0}
    for index in range(40):
        session, human = f"s{index}", f"Draw the tables chart of port {index}"
        message = human_messages([{"role": "user", "content": human}], session)[-1].key.hash
        served = is_served(candidate.id, message, 0.5)
        arms[served] += 1
        for again in range(2):
            exchange = f"ex-{index}-{again}"
            await record(
                world.turns,
                Said(turn=exchange, exchange=exchange, session=session, human=human, opened_at=NOW + 1, sample=None),
            )
            world.learning.record_verdict(
                exchange=exchange, agent="main", judge="j", score=1.0 if served else -1.0, detail={}, samples=[]
            )
    await proving.step()
    with world.trials.reading() as reader:
        comparisons = reader.comparisons(candidate.id)
    assert len(comparisons) == 40
    assert sum(one.with_score is not None for one in comparisons) == arms[True]
    assert world.candidate("tables").state == "adopted"


async def test_an_experiment_looks_at_an_exchange_once_and_then_waits_for_its_reward_alone(world):
    """Each look read all that came since the experiment began."""
    (candidate,) = world.propose("tables")
    world.trials.begin_experiment(candidate.id, share=0.5, usual=0.0)
    world.time[0] += 1
    proving = world.proving(None)
    await record(
        world.turns,
        Said(turn="t1", exchange="x1", human="Draw the tables chart", opened_at=NOW + 1, sample=None),
        Said(turn="t2", exchange="x2", session="b", human="Write a poem", opened_at=NOW + 1, sample=None),
    )
    assert not await proving.step()
    with closing(sqlite3.connect(world.turns_db)) as turns, turns:  # whoever looks for them again does not find them
        turns.execute("DELETE FROM turns")
    for name in ("x1", "x2"):
        world.learning.record_verdict(exchange=name, agent="main", judge="j", score=1.0, detail={}, samples=[])
    await proving.step()
    with world.trials.reading() as reader:
        assert [one.exchange for one in reader.comparisons(candidate.id)] == ["x1"]


async def test_a_skill_that_a_human_changed_meanwhile_is_not_overwritten(world):
    world.trials.record_evolution(
        Evolution(agent="main", author="big", num_failures=1),
        [NewCandidate(id="c", agent="main", name="tables", description="Use for tides.", body="new text",
                      base=BaseSkill(description="Use for tides.", body="old text"), why="", author="big",
                      exchanges=(), turns=())],
    )  # fmt: skip
    writer = SkillWriter(world.folder)
    mine = "---\nname: tables\ndescription: Use for tides.\n---\nmy own text\n"
    writer.write("main", mine, by="human")
    proving = world.proving(None)
    with pytest.raises(SkillError, match="somebody else"):
        await proving.adopt(world.candidate("tables"), "x")
    assert writer.current("main", "tables") == mine
    writer.write("main", mine.replace("my own text", "old text"), by="human")
    assert await proving.adopt(world.candidate("tables"), "x") == 1
    assert read_skill(world.folder / "main" / "tables").body == "new text"


async def test_an_edit_of_everybodys_skill_becomes_the_agents_own(world):
    shared = "---\nname: tables\ndescription: Use for tides.\n---\nold text\n"
    SkillWriter(world.folder).write("_shared", shared, by="human")
    world.trials.record_evolution(
        Evolution(agent="main", author="big", num_failures=1),
        [NewCandidate(id="c", agent="main", name="tables", description="Use for tides.", body="old text\n\nand more",
                      base=BaseSkill(description="Use for tides.", body="old text"), why="", author="big",
                      exchanges=(), turns=())],
    )  # fmt: skip
    await world.proving(None).adopt(world.candidate("tables"), "x")
    assert SkillWriter(world.folder).current("_shared", "tables") == shared
    assert (await world.skills.visible("main")).by_name["tables"].body == "old text\n\nand more"
    assert (await world.skills.visible("other")).by_name["tables"].body == "old text"


async def test_a_process_that_died_between_the_file_and_its_record_adopts_once(world):
    (candidate,) = world.propose("tables")
    visible = await world.skills.visible("main")
    Shelf(world.folder).put(candidate, visible, "first")
    assert await world.proving(None).adopt(candidate, "again") == 1
    assert len(SkillWriter(world.folder).history.log("main", "tables")) == 1
