"""Which exchanges are due."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from metaclaw.journal.ended_sessions import EndedSession, EndedSessions
from metaclaw.journal.feedback import NewFeedback
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.inbox import Inbox, RetryPolicy
from tests.learner.recording import Said, policy_sample, record

pytestmark = pytest.mark.anyio

MAX_AGE_S = 1.2e6


@dataclass
class World:
    """Both journals and a clock that stands still."""

    turns_db: Path
    turns: TurnJournal
    learning: LearningJournal
    now: float = 0.0

    def inbox(self, *, needs_followup: bool = True) -> Inbox:
        return Inbox(
            turns_db=self.turns_db, journal=self.learning, needs_followup=needs_followup, idle_s=300,
            retry=RetryPolicy(max_attempts=2, first_s=30, max_age_s=MAX_AGE_S), clock=lambda: self.now,
            ended=self.ended,
        )  # fmt: skip

    @property
    def ended(self) -> EndedSessions:
        return EndedSessions(self.turns_db.with_name("requests.db"))


@pytest.fixture
async def world(tmp_path):
    with LearningJournal.open(tmp_path / "learning.db", clock=lambda: world.now) as learning:
        async with TurnJournal(tmp_path / "turns.db") as turns:
            world = World(tmp_path / "turns.db", turns, learning)
            yield world


def ids(inbox: Inbox, limit: int = 10) -> list[str]:
    return [due.exchange.id for due in inbox.due(limit)]


async def test_before_the_first_turn_nothing_is_due(tmp_path):
    with LearningJournal.open(tmp_path / "learning.db") as learning:
        inbox = Inbox(turns_db=tmp_path / "none.db", journal=learning, needs_followup=False, idle_s=1)
        assert inbox.due(9) == []


async def test_an_exchange_is_due_once_the_next_one_began_and_carries_its_follow_up(world):
    """PITFALLS R9, R12: the judge never saw what it waited for, and the last turn was never judged."""
    await record(world.turns, Said(turn="a", exchange="x"))
    inbox = world.inbox()
    assert ids(inbox) == []
    await record(
        world.turns, Said(turn="b", exchange="y", human="that is wrong"), Said(turn="o", exchange="z", session="o")
    )
    (due,) = inbox.due(10)
    assert due.exchange.followup == "that is wrong"
    assert (due.exchange.prompt, due.exchange.answer, due.exchange.turn_ids) == ("hello", "hi", ("a",))
    world.now = 300.0
    assert ids(inbox) == ["x", "y", "z"]


async def test_the_same_prompt_again_is_no_follow_up(world):
    """Samples of one prompt, or a cron job's: nobody has seen the answer, so none speaks about another."""
    await record(world.turns, Said(turn="a", exchange="ex-k-1"), Said(turn="b", exchange="ex-k-2"))
    inbox = world.inbox()
    assert ids(inbox) == []
    await record(world.turns, Said(turn="c", exchange="ex-l-3", human="thanks"))
    assert [(due.exchange.id, due.exchange.followup) for due in inbox.due(10)] == [
        ("ex-k-1", None),
        ("ex-k-2", "thanks"),
    ]


async def test_without_need_of_a_follow_up_it_is_due_at_once_but_not_while_a_tool_is_running(world):
    await record(world.turns, Said(turn="a", exchange="x", finish_reason="tool_calls"))
    inbox = world.inbox(needs_followup=False)
    assert ids(inbox) == []
    await record(world.turns, Said(turn="b", exchange="x", answer="done"))
    (due,) = inbox.due(10)
    assert due.exchange.answer == "done"
    assert [turn.id for turn in due.turns] == ["a", "b"]
    assert [sample.reward for sample in due.samples(0.5)] == [0.5, 0.5]


async def test_a_sample_is_of_the_time_and_the_version_of_its_own_turn(world):
    """PITFALLS R11: what a turn was, was looked up when it was handed on: that was the newest by then."""
    calling = Said(turn="a", exchange="x", finish_reason="tool_calls", opened_at=5.0, sample=policy_sample(version=1))
    answering = Said(turn="b", exchange="x", opened_at=70.0, closed_at=80.0, sample=policy_sample(version=2))
    await record(world.turns, calling, answering, Said(turn="c", exchange="y", human="thanks", opened_at=99.0))
    (due,) = world.inbox().due(10)
    assert [(one.turn, one.version, one.sampled_at) for one in due.samples(0.5)] == [("a", 1, 5.0), ("b", 2, 70.0)]


@pytest.mark.parametrize("needs_followup", [False, True])
async def test_an_exchange_whose_tool_runs_for_long_or_waits_for_leave_is_judged_with_what_comes_after(
    world, needs_followup: bool
):
    """After five minutes it was judged as an answer that never came, and the turns that came were learned from by
    nobody."""
    await record(world.turns, Said(turn="a", exchange="x", answer="", finish_reason="tool_calls"))
    world.now = 3600.0
    inbox = world.inbox(needs_followup=needs_followup)
    assert ids(inbox) == []
    await record(world.turns, Said(turn="b", exchange="x", answer="done", opened_at=3600.0, closed_at=3600.0))
    world.now = 3900.0
    (due,) = inbox.due(10)
    assert (due.exchange.answer, [turn.id for turn in due.turns]) == ("done", ["a", "b"])


async def test_an_exchange_that_ended_with_a_tool_call_is_judged_when_something_was_said_of_it_or_after_half_a_day(
    world,
):
    calling = Said(turn="a", exchange="x", finish_reason="tool_calls")
    await record(world.turns, calling, replace(calling, turn="o", exchange="z", session="o"))
    await world.turns.add_feedback(
        NewFeedback(
            turn="o", session=None, agent="main", only_agent=None, score=-1.0, text="", source="rollout", created_at=0.0
        )
    )
    world.now = 300.0
    assert ids(world.inbox()) == ["z"]
    world.now = 12 * 3600.0
    assert ids(world.inbox()) == ["x", "z"]


async def test_an_open_turn_holds_its_exchange_back(world):
    await record(world.turns, Said(turn="a", exchange="x"), Said(turn="b", exchange="x", closed_at=None))
    world.now = 1e6
    assert ids(world.inbox(needs_followup=False)) == []


async def test_a_verdict_settles_and_a_failure_is_tried_again_later_until_the_cap(world):
    await record(world.turns, Said(turn="a", exchange="x"), Said(turn="b", exchange="y"))
    inbox = world.inbox(needs_followup=False)
    (first, _) = inbox.due(10)
    world.learning.record_verdict(
        exchange="x", agent="main", judge="t", score=1.0, detail={}, samples=first.samples(1.0)
    )
    world.learning.record_failure(exchange="y", agent="main", judge="t", detail={"error": "down"})
    assert ids(inbox) == []
    world.now = 30.0
    assert ids(inbox) == ["y"]
    world.learning.record_failure(exchange="y", agent="main", judge="t", detail={"error": "down"})
    world.now = 1e6
    assert ids(inbox) == ids(world.inbox(needs_followup=False)) == []


async def test_an_outage_of_the_judge_uses_up_no_attempts_until_the_exchange_is_too_old_to_train_on(world):
    """Eight minutes without the judge discarded everything said in them for good."""
    await record(world.turns, Said(turn="a", exchange="x"))
    inbox = world.inbox(needs_followup=False)
    for pause in itertools.chain((30, 60, 120, 240, 480, 960, 1920), itertools.repeat(3600)):
        if world.now > MAX_AGE_S:
            break
        assert ids(inbox) == ["x"]
        world.learning.record_failure(exchange="x", agent="main", judge="t", detail={"error": "down"}, is_outage=True)
        world.now += pause - 1
        assert ids(inbox) == []
        world.now += 1
    assert ids(inbox) == ids(world.inbox(needs_followup=False)) == []


async def test_after_an_outage_a_judge_that_answers_nonsense_still_has_its_own_attempts(world):
    await record(world.turns, Said(turn="a", exchange="x"))
    inbox = world.inbox(needs_followup=False)
    for is_outage in (True, True, True, False, True):
        world.learning.record_failure(exchange="x", agent="main", judge="t", detail={}, is_outage=is_outage)
        world.now += 3600.0
        assert ids(inbox) == ["x"]
    world.learning.record_failure(exchange="x", agent="main", judge="t", detail={})
    world.now += 3600.0
    assert ids(inbox) == []


async def test_no_opinion_is_not_asked_again(world):
    await record(world.turns, Said(turn="a", exchange="x"))
    world.learning.record_failure(exchange="x", agent="main", judge="t", detail={"no_opinion": True})
    world.now = 1e6
    assert ids(world.inbox()) == []


async def test_exchanges_without_a_trainable_turn_are_not_judged(world, caplog):
    caplog.set_level("INFO")
    await record(
        world.turns,
        Said(turn="a", exchange="x", sample=None),
        Said(turn="b", exchange="y", sample=policy_sample(temperature=0.0)),
        Said(turn="c", exchange="z", state="cut"),
        Said(turn="d", exchange="w"),
    )
    world.now = 1e6
    inbox = world.inbox()
    assert ids(inbox) == ["w"]
    assert ids(inbox) == ["w"]
    assert caplog.text.count("temperature_too_low") == 1


async def test_behind_one_that_waits_each_is_looked_at_once_and_nothing_of_it_is_remembered_when_that_is_over(
    world, caplog
):
    """Else a judge that is away for a day would have all of the day read again each second."""
    caplog.set_level("INFO")
    inbox = world.inbox(needs_followup=False)
    await record(world.turns, Said(turn="w", exchange="w", finish_reason="tool_calls"))
    cut = [Said(turn=f"t{number}", exchange=f"x{number}", session="o", state="cut") for number in range(4)]
    await record(world.turns, *cut)
    world.now = 300.0
    assert ids(inbox) == ids(inbox) == []
    assert caplog.text.count("is not learned from") == len(inbox._settled) == 4
    await record(world.turns, Said(turn="t4", exchange="x0", session="o"))
    assert ids(inbox) == ["x0"], "a turn came after it was settled"
    world.now = 13 * 3600.0
    for name in ids(inbox):
        world.learning.record_verdict(exchange=name, agent="main", judge="t", score=0.0, detail={}, samples=[])
    assert ids(inbox) == []
    assert (inbox._settled, inbox._passed) == ({}, {})


def call(name: str, **arguments: str) -> tuple[dict, ...]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return ({"id": f"call-{name}", "type": "function", "function": function},)


async def test_an_agent_that_a_tool_call_started_in_the_same_session_is_not_what_the_human_said_next(world):
    """Claude Code's subagents have its session: a loop that waited for one was judged at once, by the subagent's task
    as the human's next message, and all that came after was learned from by nobody."""
    asked, calls = {"role": "user", "content": "hello"}, call("Task", prompt="count the files")
    calling = Said(turn="a", exchange="ex-k-1", answer="", calls=calls, finish_reason="tool_calls")
    await record(world.turns, calling, Said(turn="b", exchange="ex-l-2", human="count the files", answer="seven"))
    world.now = 200.0
    inbox = world.inbox()
    assert ids(inbox) == []
    loop = (asked, {"role": "assistant", "content": "", "tool_calls": list(calls)})
    loop += ({"role": "tool", "tool_call_id": "other", "content": "seven"},)
    await record(
        world.turns,
        Said(turn="c", exchange="ex-k-1", messages=loop, answer="seven files", opened_at=200.0, closed_at=200.0),
    )
    world.now = 300.0
    (subagent,) = inbox.due(10)
    assert (subagent.exchange.id, subagent.exchange.followup) == ("ex-l-2", None), "its caller is no follow-up"
    await record(world.turns, Said(turn="d", exchange="ex-m-3", human="thanks", opened_at=300.0, closed_at=300.0))
    due = {one.exchange.id: one for one in inbox.due(10)}["ex-k-1"]
    assert (due.exchange.answer, due.exchange.followup) == ("seven files", "thanks")
    assert [turn.id for turn in due.turns] == ["a", "c"]


async def test_a_loop_that_the_human_interrupted_is_judged_with_what_he_said(world):
    asked, calls = {"role": "user", "content": "hello"}, call("Task", prompt="count the files")
    calling = Said(turn="a", exchange="ex-k-1", answer="", calls=calls, finish_reason="tool_calls")
    await record(world.turns, calling, Said(turn="b", exchange="ex-l-2", human="count the files", answer="seven"))
    inbox = world.inbox()
    assert ids(inbox) == []
    history = (asked, {"role": "assistant", "content": "", "tool_calls": list(calls)})
    history += ({"role": "tool", "tool_call_id": "c", "content": "interrupted"},)
    await record(world.turns, Said(turn="c", exchange="ex-m-3", history=history, human="stop, only the images"))
    due = {one.exchange.id: one for one in inbox.due(10)}["ex-k-1"]
    assert due.exchange.followup == "stop, only the images"


async def test_paging_reaches_every_exchange_and_an_unsettled_one_is_found_again(world):
    await record(world.turns, *(Said(turn=f"t{n}", exchange=f"x{n}", session=f"s{n}") for n in range(230)))
    inbox = world.inbox(needs_followup=False)
    seen = list[str]()
    while due := inbox.due(64):
        for one in due:
            seen.append(one.exchange.id)
            world.learning.record_verdict(
                exchange=one.exchange.id, agent="main", judge="t", score=0.0, detail={}, samples=one.samples(0.0)
            )
    assert seen == [f"x{n}" for n in range(230)]
    assert ids(world.inbox(needs_followup=False)) == []


async def test_where_nothing_is_trained_every_answered_exchange_is_judged_but_not_the_past(world):
    """A judge in skills_only tells failures; what was said long before there was one is not paid for."""
    await record(
        world.turns,
        Said(turn="a", exchange="x", sample=None),
        Said(turn="b", exchange="y", session="o", state="failed", sample=None),
        Said(turn="c", exchange="z", session="p", sample=None, opened_at=-MAX_AGE_S - 1),
    )
    assert ids(world.inbox(needs_followup=False)) == []
    inbox = Inbox(
        turns_db=world.turns_db, journal=world.learning, needs_followup=False, idle_s=300,
        is_trained=lambda agent: False, retry=RetryPolicy(max_age_s=MAX_AGE_S), clock=lambda: world.now,
    )  # fmt: skip
    (due,) = inbox.due(10)
    assert (due.exchange.id, due.turns) == ("x", ())
    world.learning.record_verdict(exchange="x", agent="main", judge="t", score=-1.0, detail={}, samples=[])
    assert ids(inbox) == []


async def test_an_agent_that_is_not_trained_is_judged_and_gets_no_samples_beside_one_that_is(world):
    await record(
        world.turns,
        Said(turn="a", exchange="x", agent="research", session="r"),
        Said(turn="b", exchange="y", agent="assistant", session="s"),
    )
    world.now = 301.0
    inbox = Inbox(
        turns_db=world.turns_db, journal=world.learning, needs_followup=False, idle_s=300,
        is_trained=lambda agent: agent == "research", clock=lambda: world.now,
    )  # fmt: skip
    assert {due.exchange.agent: [turn.id for turn in due.turns] for due in inbox.due(10)} == {
        "research": ["a"], "assistant": [],
    }  # fmt: skip


async def test_a_session_that_its_client_calls_done_is_judged_at_once(world):
    """SPEC A5, `X-Session-Done`: whoever trains after each scene waited for a follow-up that could not come."""
    await record(
        world.turns,
        Said(turn="a", exchange="x"), Said(turn="o", exchange="o", session="o"),
        Said(turn="p", exchange="p", agent="q"),
        Said(turn="c", exchange="c", session="calling", answer="", finish_reason="tool_calls"),
    )  # fmt: skip
    inbox = world.inbox()
    assert ids(inbox) == []
    for session in ("s", "calling"):
        world.ended.note(EndedSession(agent="main", session=session, at=0.0))
    assert ids(inbox) == ["x"], "of that session and agent alone, and nothing that waits for a tool"
    assert world.ended.heard() == [], "a word is heard once"
    await record(world.turns, Said(turn="b", exchange="y", opened_at=1.0, closed_at=2.0))
    assert ids(inbox) == ["x"], "it went on all the same, and that waits as ever"


async def test_what_nobody_hears_is_dropped_after_an_hour(tmp_path):
    ended = EndedSessions(tmp_path / "requests.db")
    for at in (0.0, 3000.0, 3700.0):
        ended.note(EndedSession(agent="main", session=f"s{at:g}", at=at))
    assert [one.session for one in ended.heard()] == ["s3000", "s3700"]


async def test_a_broken_requests_db_keeps_nobody_from_judging(world, caplog):
    """What it says comes by silence too; all judging stood still for it."""
    await record(world.turns, Said(turn="a", exchange="x"))
    world.turns_db.with_name("requests.db").write_bytes(b"this is no database " * 200)
    inbox = world.inbox()
    assert ids(inbox) == []
    world.now = 300.0
    assert ids(inbox) == ["x"]
    assert caplog.text.count("wait for rl.judge.idle_s") == 1, "it is said once"
