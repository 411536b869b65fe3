"""Asking a recorded exchange again: in every dialect, and where the agent used tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaclaw.chat.dialect import CONVERSATION_KEYS
from metaclaw.chat.dialects import DIALECTS
from metaclaw.chat.messages import JsonObject
from tests.learner.recording import Said, record
from tests.learner.skills.worlds import NOW, ScriptedAnswerer, World
from tests.learner.skills.worlds import world as make_world

pytestmark = pytest.mark.anyio

ASKED = "Draw the tables chart of port 7"
CHAT_TOOL = {"type": "function", "function": {"name": "read", "description": "", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": '{"path": "tide.csv"}'}}
RESULT = "high water 03:12"

BODIES: dict[str, JsonObject] = {
    "openai.chat": {
        "model": "m",
        "max_tokens": 50,
        "tools": [CHAT_TOOL],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": ASKED},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": RESULT},
        ],
    },
    "anthropic.messages": {
        "model": "m",
        "max_tokens": 50,
        "system": "Be brief.",
        "tools": [{"name": "read", "description": "", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": ASKED, "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "c1", "name": "read", "input": {"path": "tide.csv"}},
            ]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": RESULT}]},
            {"role": "system", "content": "Today is a Tuesday."},
        ],
    },
    "openai.responses": {
        "model": "m",
        "max_output_tokens": 50,
        "instructions": "Be brief.",
        "tools": [{"type": "function", "name": "read", "description": "", "parameters": {"type": "object"}}],
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": ASKED}]},
            {"type": "function_call", "call_id": "c1", "name": "read", "arguments": '{"path": "tide.csv"}'},
            {"type": "function_call_output", "call_id": "c1", "output": RESULT},
        ],
    },
}  # fmt: skip


@pytest.fixture
async def world(tmp_path: Path):
    async with make_world(tmp_path) as made:
        yield made


async def tool_loop(world: World, dialect: str) -> None:
    """Two turns of one exchange, as the gateway records them: a call, and an answer after its result."""
    body = BODIES[dialect]
    messages = DIALECTS[dialect].parse(body).messages
    request = {key: value for key, value in body.items() if key not in CONVERSATION_KEYS}
    asked = next(index for index, one in enumerate(messages) if one["role"] == "assistant")
    step = {"exchange": "ex-1-0", "session": "s", "opened_at": NOW - 9, "sample": None, "dialect": dialect}
    await record(
        world.turns,
        Said(turn="t1", messages=tuple(messages[:asked]), answer="", calls=(CALL,), finish_reason="tool_calls",
             request=request, **step),
        Said(turn="t2", messages=tuple(messages), answer="drawn", request=request, **step),
    )  # fmt: skip


@pytest.mark.parametrize("dialect", BODIES)
async def test_the_last_step_of_a_tool_loop_is_asked_again_with_what_the_tools_gave_as_history(world, dialect):
    world.propose("tables")
    await tool_loop(world, dialect)
    answerer = ScriptedAnswerer(lambda text: "right" if "Skill tables" in text else "wrong")
    assert await world.proving(answerer).step()
    with world.trials.reading() as reader:
        (comparison,) = reader.comparisons("id-tables")
    assert (comparison.with_score, comparison.without_score, comparison.void) == (1.0, -1.0, None)
    one, other = answerer.requests
    for request in answerer.requests:
        system, human, called, result, *rest = request["messages"]
        assert system == {"role": "system", "content": "Be brief."}
        assert human["role"] == "user"
        assert called["tool_calls"][0]["function"]["name"] == "read"
        assert result["content"] == RESULT
        assert all(message["role"] == "user" for message in rest), "a template that allows one system message"
        assert request["max_tokens"] == 50
        assert request["tools"][0]["function"]["name"] == "read"
        assert set(request) <= {"model", "messages", "max_tokens", "tools"}
    assert {**one, "messages": one["messages"][2:]} == {**other, "messages": other["messages"][2:]}
    assert sum("Skill tables" in str(request["messages"][1]) for request in answerer.requests) == 1


async def test_an_answer_that_calls_a_tool_is_judged_as_the_next_step_and_nothing_is_run(world):
    world.propose("tables")
    await tool_loop(world, "openai.chat")
    answerer = ScriptedAnswerer(lambda text: "right" if "Skill tables" in text else "call delete_everything")
    await world.proving(answerer).step()
    judged = {exchange.answer: exchange for exchange in world.judge.seen}
    call = judged["[calls delete_everything({}); nothing came back yet]"]
    assert call.messages[-1]["tool_calls"][0]["function"]["name"] == "delete_everything"
    assert len(call.messages) == len(judged["right"].messages) + 1
    assert len(answerer.requests) == 2


async def test_two_equal_answers_are_judged_once(world):
    """A judge that is asked twice may think two things of one answer, and that would count for or against the skill."""
    world.propose("tables")
    await tool_loop(world, "openai.chat")
    await world.proving(ScriptedAnswerer(lambda text: "right")).step()
    assert len(world.judge.seen) == 1
    with world.trials.reading() as reader:
        (comparison,) = reader.comparisons("id-tables")
    assert comparison.with_score == comparison.without_score == 1.0


async def test_what_the_answers_took_is_kept_and_what_nobody_knows_is_not_nothing(world):
    world.propose("tables")
    await tool_loop(world, "openai.chat")
    await record(world.turns, Said(turn="t3", exchange="x3", session="b", human=ASKED, opened_at=NOW - 9, sample=None))
    answerer = ScriptedAnswerer(lambda text: text[-9:], cost_usd=0.25)
    proving = world.proving(answerer)
    await proving.step()
    answerer.cost_usd = None
    await proving.step()
    with world.trials.reading() as reader:
        costs = [(one.prompt_tokens, one.completion_tokens, one.cost_usd) for one in reader.comparisons("id-tables")]
    assert sorted(costs, key=str) == [(200, 20, 0.5), (200, 20, None)]


async def test_content_that_chat_cannot_say_makes_a_comparison_void_once(world):
    world.propose("tables")
    sealed = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}}
    content = [{"type": "text", "text": ASKED}, sealed]
    said = Said(
        turn="t", exchange="x", messages=({"role": "user", "content": content},), opened_at=NOW - 9, sample=None,
        dialect="anthropic.messages", request={"max_tokens": 5},
    )  # fmt: skip
    await record(world.turns, said)
    answerer = ScriptedAnswerer(lambda text: "right")
    proving = world.proving(answerer)
    assert await proving.step()
    with world.trials.reading() as reader:
        (comparison,) = reader.comparisons("id-tables")
    assert comparison.void is not None
    assert "'document'" in comparison.void
    assert answerer.requests == []
    world.time[0] += 3600
    await proving.step()
    assert world.candidate("tables").experiment is not None, "it goes on experiment where nothing can be replayed"
