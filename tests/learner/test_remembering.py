"""What was said is read for memories, at the right time, once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from metaclaw.errors import UpstreamError
from metaclaw.journal.feedback import NewFeedback
from metaclaw.journal.turns import BlockKey, RecallBlock, TurnJournal
from metaclaw.learner.remembering import Remembering
from metaclaw.memory.extraction.findings import Extractor, Finding, Found, Material
from metaclaw.memory.extraction.model import ModelExtractor
from metaclaw.memory.extraction.rules import RuleExtractor
from metaclaw.memory.extraction.unread import UnreadExchanges, When
from metaclaw.memory.forgetting import forget, forgotten_ids
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.units import MemoryUnit
from metaclaw.upstreams.chat_model import ChatModel
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.session import new_session
from metaclaw.upstreams.structured import StructuredAnswer, StructuredModel
from metaclaw.upstreams.upstream import Timeouts, Upstream
from tests.fakes.judge_llm import judge_model
from tests.learner.recording import Said, record

pytestmark = pytest.mark.anyio

IDLE_S = 100.0


@dataclass
class World:
    turns: TurnJournal
    store: MemoryStore
    path: Path
    time: list[float] = field(default_factory=lambda: [0.0])

    def job(self, extractor: Extractor | None = None, **more: Any) -> Remembering:
        rules = RuleExtractor()
        when = When(every_n=3, idle_s=IDLE_S)
        return Remembering(
            turns_db=self.path, store=self.store, unread=UnreadExchanges(self.path, self.store, when),
            extractor=extractor or rules, fallback=rules, clock=lambda: self.time[0], **more,
        )  # fmt: skip

    def units(self) -> list[MemoryUnit]:
        return self.store.latest()

    def texts(self) -> list[str]:
        return sorted(unit.text for unit in self.units() if unit.kind != "working_summary")


@pytest.fixture
async def world(tmp_path):
    async with TurnJournal(tmp_path / "turns.db") as turns:
        with MemoryStore.open(tmp_path / "memory" / "memory.db") as store:
            yield World(turns, store, tmp_path / "turns.db")


def said(number: int, text: str, session: str = "s", **changes) -> Said:
    return Said(turn=f"{session}-t{number}", exchange=f"{session}x{number}", session=session, human=text, **changes)


async def test_a_session_is_read_after_a_few_exchanges_without_waiting_for_its_end(world):
    """PITFALLS B4-6: memory was written only when a client announced the end of a session, which none does."""
    job = world.job()
    await record(world.turns, *(said(number, f"I live in town {number}.") for number in range(3)))
    assert not await job.step(), "of three exchanges two are followed by another"
    await record(world.turns, said(3, "hello"))
    assert await job.step()
    assert world.texts() == ["I live in town 2."], "each took the place of the one before"
    assert not await job.step()


async def test_a_session_that_falls_silent_is_read(world):
    await record(world.turns, said(0, "I live in Oslo."))
    job = world.job()
    world.time[0] = IDLE_S - 1
    assert not await job.step()
    world.time[0] = IDLE_S
    assert await job.step()
    (unit,) = world.units()
    assert (unit.text, unit.kind, unit.subject, unit.turns) == ("I live in Oslo.", "semantic", "home", ("s-t0",))
    assert (unit.source, unit.agent, unit.scope) == ("user", "main", "agent")


async def test_what_was_said_before_the_clock_was_set_back_is_read(world):
    """A machine that woke a year ahead: its last exchanges were to be read in a year, and 2,000 of them kept all that
    came after them from being read."""
    await record(world.turns, said(0, "I live in Oslo.", closed_at=365 * 86_400.0))
    assert await world.job().step()
    assert world.texts() == ["I live in Oslo."]


async def test_an_exchange_that_is_still_answered_waits(world):
    await record(world.turns, said(0, "I live in Oslo.", closed_at=None))
    world.time[0] = 1e6
    assert not await world.job().step()


async def test_side_turns_are_never_read(world):
    await record(world.turns, said(0, "I live in Oslo.", kind="side"), said(1, "I prefer tea.", kind="side"))
    world.time[0] = 1e6
    assert not await world.job().step()
    assert world.units() == []


async def test_what_was_read_is_not_read_again_by_anybody(world):
    await record(world.turns, said(0, "I live in Oslo."), said(1, "I prefer tea over coffee.", session="other"))
    world.time[0] = 1e6
    seen = list[str]()

    class Watching(RuleExtractor):
        async def extract(self, material: Material) -> Found:
            seen.append(material.exchange)
            return await super().extract(material)

    for _ in range(3):
        await world.job(Watching()).step()
    assert sorted(seen) == ["otherx1", "sx0"]


async def test_what_a_client_sends_again_is_not_new(world):
    """PITFALLS B4-1: the whole history was ingested at every turn."""
    history = (
        {"role": "system", "content": "You are Claw. My name is Claw and I live in a terminal."},
        {"role": "user", "content": "I live in Oslo."},
        {"role": "assistant", "content": "I prefer tabs over spaces."},
    )
    await record(world.turns, said(0, "I prefer tea over coffee.", history=history))
    world.time[0] = 1e6
    await world.job().step()
    assert world.texts() == ["I prefer tea over coffee."]


async def test_messages_in_a_row_are_new_together(world):
    history = ({"role": "user", "content": "I live in Oslo."},)
    await record(world.turns, said(0, "And I prefer tea over coffee.", history=history))
    world.time[0] = 1e6
    await world.job().step()
    assert world.texts() == ["And I prefer tea over coffee.", "I live in Oslo."]


async def test_an_answer_or_a_tool_is_not_taken_for_the_user(world):
    await record(world.turns, said(0, "hello", answer="I live in Rome. Remember that my name is Claw."))
    world.time[0] = 1e6
    await world.job().step()
    assert world.units() == []


async def test_what_one_user_said_is_theirs_alone(world):
    """The reference system under faults: user B's prompt contained user A's PIN."""
    await record(
        world.turns,
        said(0, "I live in Oslo.", session="a", user="ada"),
        said(0, "We decided to use Postgres.", session="b", user="bob", workspace="shop"),
        said(0, "I prefer tea over coffee.", session="c", memory_scope="session"),
        said(0, "I live in Rome.", session="d", memory_scope="none"),
    )
    world.time[0] = 1e6
    await world.job().step()
    owners = {unit.text: (unit.scope, unit.user or unit.workspace or unit.session) for unit in world.units()}
    assert owners == {
        "I live in Oslo.": ("user", "ada"),
        "We decided to use Postgres.": ("workspace", "shop"),
        "I prefer tea over coffee.": ("session", "c"),
    }


async def test_what_was_forgotten_is_not_learned_again_from_the_same_turn(world):
    await record(world.turns, said(0, "I live in Oslo."))
    world.time[0] = 1e6
    await world.job().step()
    (unit,) = world.units()
    world.store.connection.execute("DELETE FROM extracted")  # as a restored backup would have it
    forget(world.store, [unit.id], why="asked", now=1e6)
    await world.job().step()
    assert world.units() == []
    assert forgotten_ids(world.store) == {unit.id}


async def test_a_session_has_one_summary_which_is_replaced(world):
    def history(*texts: str) -> tuple[dict, ...]:
        pairs = [({"role": "user", "content": text}, {"role": "assistant", "content": "ok"}) for text in texts]
        return tuple(message for pair in pairs for message in pair)

    await record(world.turns, said(0, "Plan a trip."), said(1, "Book the train.", history=history("Plan a trip.")))
    world.time[0] = 1e6
    job = world.job()
    await job.step()
    more = history("Plan a trip.", "Book the train.")
    await record(world.turns, said(2, "Find a hotel.", history=more))
    await job.step()
    (summary,) = world.units()
    assert (summary.kind, summary.scope, summary.session) == ("working_summary", "session", "s")
    assert summary.text == "In this session the user said: Plan a trip. | Book the train. | Find a hotel."


async def test_a_session_of_which_something_was_forgotten_is_not_summarised_again(world):
    """A summary reaches back to all that the user asked, so it would bring back what was forgotten."""
    before = ({"role": "user", "content": "I live in Oslo."}, {"role": "assistant", "content": "ok"})
    await record(world.turns, said(0, "I live in Oslo."), said(1, "Book the train.", history=before))
    world.time[0] = 1e6
    await world.job().step()
    forget(world.store, [unit.id for unit in world.units() if unit.text == "I live in Oslo."], why="asked", now=1e6)
    assert world.units() == []
    await record(world.turns, said(2, "I prefer tea over coffee.", history=before))
    await world.job().step()
    assert [unit.text for unit in world.units()] == ["I prefer tea over coffee."]


@dataclass
class ScriptedExtractor:
    """Finds what it is given, or raises it; the last for ever."""

    outcomes: list[Found | Exception]
    name: str = "scripted"
    asked: int = 0

    async def extract(self, material: Material) -> Found:
        self.asked += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


FOUND = Found(findings=(Finding(kind="semantic", text="It lives in Oslo.", evidence="Oslo"),))


async def test_while_the_model_is_away_nothing_is_lost_and_nothing_is_marked_as_read(world):
    await record(world.turns, said(0, "I live in Oslo."))
    world.time[0] = 1e6
    job = world.job(ScriptedExtractor([UpstreamError("away", status=503), FOUND]))
    with pytest.raises(UpstreamError):
        await job.step()
    assert world.store.was_read(["sx0"]) == frozenset()
    await job.step()
    assert world.texts() == ["It lives in Oslo."]


async def test_what_the_model_refuses_is_read_by_the_rules(world):
    await record(world.turns, said(0, "I live in Oslo."))
    world.time[0] = 1e6
    await world.job(ScriptedExtractor([UpstreamError("too long", status=413)])).step()
    assert world.texts() == ["I live in Oslo."]
    assert details(world.store) == [{"refused_by_model": 1}]


async def test_secrets_are_counted_and_not_kept(world):
    await record(world.turns, said(0, "My password is hunter2. I live in Oslo."))
    world.time[0] = 1e6
    await world.job().step()
    assert "hunter2" not in " ".join(world.texts())
    assert details(world.store) == [{"secret": 1}]


async def test_a_model_finds_memories_and_is_shown_no_secret_and_no_system_prompt(world):
    def reply(body):
        memory = {
            "kind": "preference", "text": "The user does not eat fish.", "evidence": "I do not eat fish",
            "source": "user", "subject": "", "standing": True, "true_from": None, "true_until": None, "confidence": 0.8,
        }  # fmt: skip
        invented = {**memory, "text": "The user lives in Rome.", "evidence": "I live in Rome"}
        return json.dumps({"memories": [memory, invented]})

    history = ({"role": "system", "content": "The magic word is xyzzy."},)
    await record(world.turns, said(0, "I do not eat fish. My password is hunter2.", history=history))
    world.time[0] = 1e6
    async with judge_model(reply) as model, new_session() as session:
        limits = Timeouts(first_byte_s=60, gap_s=60)
        upstream = Upstream(
            name="the extractor", base_url=model.url, api_key=SecretStr(""), key_setting="k", timeouts=limits
        )
        client = ChatModel(HttpModel(session, upstream))
        asked = StructuredModel(client, model="m", max_tokens=500, timeout_s=60)
        await world.job(ModelExtractor(asked, name="llm:m", new_fence=lambda: "fence")).step()
    assert [(one.text, one.standing) for one in world.units()] == [("The user does not eat fish.", True)]
    assert details(world.store) == [{"not_said": 1, "secret": 1}]
    shown = json.dumps(model.requests)
    assert "hunter2" not in shown
    assert "xyzzy" not in shown
    assert model.requests[0]["response_format"]["type"] == "json_schema"


def details(store: MemoryStore) -> list[dict[str, int]]:
    return [json.loads(detail) for (detail,) in store.connection.execute("SELECT detail FROM extracted").fetchall()]


async def test_a_memory_that_was_recalled_counts_as_used_when_its_exchange_is_read(world):
    await record(world.turns, said(0, "I live in Oslo."))
    world.time[0] = IDLE_S
    assert await world.job().step()
    (unit,) = world.units()
    recalled = ("git-undo-safely", f"memory:{unit.id}", "memory:m-forgotten")
    await record(world.turns, said(1, "Where do I live?", session="z", recalled=recalled))
    assert await world.job().step()
    assert world.store.connection.execute("SELECT unit, number FROM uses").fetchall() == [(unit.id, 1)]


async def test_what_a_user_writes_about_an_answer_is_read_also_when_the_exchange_was_read_long_ago(world):
    await record(world.turns, said(0, "What is the weather like?", user="ada"))
    world.time[0] = 1e6
    job = world.job()
    await job.step()
    for source, text in (("user", "I live in Bergen."), ("monitor", "I live in Rome."), ("user", "")):
        about = NewFeedback(
            turn="s-t0", agent="main", session=None, only_agent=None, score=-1.0, text=text, source=source,
            created_at=2.0,
        )  # fmt: skip
        await world.turns.add_feedback(about)
    assert await job.step()
    assert not await job.step()
    assert not await world.job().step(), "another process does not read it again either"
    (unit,) = world.units()
    assert (unit.text, unit.scope, unit.user, unit.turns) == ("I live in Bergen.", "user", "ada", ("s-t0",))


async def test_what_a_user_writes_about_an_answer_waits_for_a_model_that_is_away(world):
    """PITFALLS B4-6: of what was said while something was away, nothing was remembered."""
    await record(world.turns, said(0, "What is the weather like?"))
    world.time[0] = 1e6
    away = UpstreamError("nobody is there")
    job = world.job(ScriptedExtractor([Found(), away, away, FOUND]))
    await job.step()
    await world.turns.add_feedback(
        NewFeedback(turn="s-t0", agent="main", session=None, only_agent=None, score=-1.0, text="I live in Bergen.",
                    source="user", created_at=2.0)
    )  # fmt: skip
    for _ in range(2):
        with pytest.raises(UpstreamError):
            await job.step()
    assert await job.step()
    assert world.texts() == ["It lives in Oslo."]


async def test_what_is_older_than_the_model_may_see_is_read_by_the_rules(world):
    await record(world.turns, said(0, "I live in Oslo."), said(0, "I prefer tea.", session="new", opened_at=9e5))
    world.time[0] = 1e6
    asked = ScriptedExtractor([Found()])
    await world.job(asked, max_age_s=2e5).step()
    assert asked.asked == 1
    assert world.texts() == ["I live in Oslo."]


async def test_a_line_that_was_recalled_is_not_new_when_the_user_s_program_says_it_again(world):
    """A program that puts what it was told into a user's message, without our marks, would make it the user's."""
    await record(world.turns, said(0, "Where do I live?"))
    text = "<metaclaw-recall>\n[memory] (a tool said, 2026-11-01): I live in Rome.\n</metaclaw-recall>"
    await world.turns.claim_blocks("main", "s-t0", [(BlockKey(b"k" * 32, 0), RecallBlock(text=text))], now=0.0)
    await record(
        world.turns, said(1, "I live in Rome.\n\nMy dog is called Rex."), said(0, "I live in Rome.", session="z")
    )
    world.time[0] = 1e6
    await world.job().step()
    (rome,) = [unit for unit in world.units() if unit.text == "I live in Rome."]
    assert rome.turns == ("z-t0",), "who says it in another session says it of their own"
    assert "My dog is called Rex." in world.texts()


async def test_a_model_whose_answers_cannot_be_read_is_asked_again_and_then_the_rules_read(world):
    class Babbling:
        asked = 0

        async def ask(self, messages, form):
            self.asked += 1
            return StructuredAnswer(text="I found nothing of note!", model="m", usage=None)

    await record(world.turns, said(0, "I live in Oslo."))
    world.time[0] = 1e6
    model = Babbling()
    await world.job(ModelExtractor(model, name="llm:m", new_fence=lambda: "fence")).step()
    assert model.asked == 3
    assert world.texts() == ["I live in Oslo."]
    assert details(world.store) == [{"refused_by_model": 1}]
