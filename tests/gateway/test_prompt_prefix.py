"""Each prompt begins with the one before, in every dialect, whatever the client does to its history.

The conversation is driven with the SDKs: it goes on, calls a tool, is edited, forked, compacted and cut at its
beginning; the client moves a message of its own to the end of every request, as OpenClaw does.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from tests.agents.conversations import without_what_moves
from tests.fakes.llm import fake_llm
from tests.gateway.running import TOKEN, RunningGateway, make_settings, running_gateway
from tests.gateway.test_recall_and_identity import write_skill

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
MOVED = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>now<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
SESSION = {"X-Session-Id": "s"}
ARGUMENTS = '{"path": "a.txt"}'
PARAMETERS = {"type": "object", "properties": {"path": {"type": "string"}}}


def user(text: str) -> Json:
    return {"role": "user", "text": text}


def said(text: str) -> Json:
    return {"role": "assistant", "text": text}


CALL, RESULT = {"role": "call"}, {"role": "result", "text": "a.txt is empty"}
FIRST, SECOND = user("Please write a git commit message"), user("And deploy the release with docker now")
THIRD = user("Then review the database schema migration")
TALK = [FIRST, said("Fix the bug."), SECOND, CALL, RESULT, said("Deployed."), THIRD, said("Reviewed.")]
HISTORIES = [
    TALK[:1],
    TALK[:3],
    TALK[:5],
    TALK[:7],
    TALK[:7],  # a retry
    [*TALK[:2], user("And deploy the release with docker, but tomorrow")],  # an edit
    [*TALK[:3], said("I would rather not."), user("Write the git commit message again")],  # a fork
    [user("[Summary: a commit was written and deployed]"), said("Yes."), user("Write one more git commit message")],
    [*TALK[2:], user("Deploy it with docker again")],  # cut at its beginning
    [*TALK, user("Thanks for the git commit message")],
]


def as_chat(history: list[Json]) -> list[Json]:
    function = {"name": "read", "arguments": ARGUMENTS}
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    shapes: dict[str, Callable[[Json], Json]] = {
        "call": lambda _: call,
        "result": lambda one: {"role": "tool", "tool_call_id": "c1", "content": one["text"]},
    }
    plain: Callable[[Json], Json] = lambda one: {"role": one["role"], "content": one["text"]}  # noqa: E731
    return [shapes.get(one["role"], plain)(one) for one in history]


def as_items(history: list[Json]) -> list[Json]:
    call = {"type": "function_call", "call_id": "c1", "name": "read", "arguments": ARGUMENTS}
    shapes: dict[str, Callable[[Json], Json]] = {
        "call": lambda _: call,
        "result": lambda one: {"type": "function_call_output", "call_id": "c1", "output": one["text"]},
    }
    plain: Callable[[Json], Json] = lambda one: {"role": one["role"], "content": one["text"]}  # noqa: E731
    return [shapes.get(one["role"], plain)(one) for one in history]


def as_anthropic(history: list[Json]) -> list[Json]:
    call = {"type": "tool_use", "id": "c1", "name": "read", "input": json.loads(ARGUMENTS)}
    messages: list[Json] = []
    for one in history:
        if one["role"] == "call":
            messages.append({"role": "assistant", "content": [call]})
        elif one["role"] == "result":
            block = {"type": "tool_result", "tool_use_id": "c1", "content": one["text"]}
            messages.append({"role": "user", "content": [block]})
        else:
            messages.append({"role": one["role"], "content": [{"type": "text", "text": one["text"]}]})
    return messages


async def ask_chat(gateway: RunningGateway, history: list[Json]) -> None:
    messages: Any = [{"role": "system", "content": "Be brief."}, *as_chat(history)]
    tools: Any = [{"type": "function", "function": {"name": "read", "parameters": PARAMETERS}}]
    await gateway.client.chat.completions.create(model="any", messages=messages, tools=tools, extra_headers=SESSION)


async def ask_responses(gateway: RunningGateway, history: list[Json]) -> None:
    items: Any = as_items(history)
    tools: Any = [{"type": "function", "name": "read", "parameters": PARAMETERS, "strict": False}]
    await gateway.client.responses.create(
        model="any", instructions="Be brief.", input=items, tools=tools, extra_headers=SESSION
    )


async def ask_anthropic(gateway: RunningGateway, history: list[Json]) -> None:
    async with AsyncAnthropic(base_url=gateway.url, api_key=TOKEN, max_retries=0) as client:
        messages: Any = as_anthropic(history)
        tools: Any = [{"name": "read", "input_schema": PARAMETERS}]
        await client.messages.create(
            model="any", max_tokens=50, system="Be brief.", messages=messages, tools=tools, extra_headers=SESSION
        )


def assert_they_share(one: list[Json], prompt: list[str], other: list[Json], later: list[str]) -> None:
    """Two prompts are the same up to the message in which the client's histories differ, and go on with that."""
    same = [a == b for a, b in zip(one, other, strict=False)]
    num_messages = same.index(False) if False in same else len(same)
    equal = [a == b for a, b in zip(prompt, later, strict=False)]
    num_pieces = equal.index(False) if False in equal else len(equal)
    for history, pieces in ((one, prompt), (other, later)):
        if num_messages == len(history):
            assert num_pieces == len(pieces)
        else:
            assert history[num_messages].get("text", "a.txt") in pieces[num_pieces]


@pytest.mark.parametrize("speaks", ["openai.chat", "openai.responses", "anthropic.messages"])
@pytest.mark.parametrize("ask", [ask_chat, ask_responses, ask_anthropic])
async def test_what_two_histories_share_two_prompts_share(
    ask: Callable[[RunningGateway, list[Json]], Awaitable[None]], speaks: str, tmp_path: Path
) -> None:
    write_skill(tmp_path, "git-commit", "Write git commit messages", body="Use the imperative.")
    write_skill(tmp_path, "docker-deploy", "Deploy a release with docker", body="Tag the image.")
    write_skill(tmp_path, "schema-review", "Review a database schema migration", body="Look for locks.")
    async with (
        fake_llm() as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url, llm={"dialects": (speaks,)})) as gateway,
    ):
        for history in HISTORIES:
            await ask(gateway, [*history, user(MOVED)])
        turns = await gateway.turns()
    heads, prompts = zip(*map(without_what_moves, llm.requests), strict=True)
    assert len(prompts) == len(turns) == len(HISTORIES)
    assert len(set(heads)) == 1
    for (one, prompt), (other, later) in combinations(zip(HISTORIES, prompts, strict=True), 2):
        assert_they_share(one, prompt, other, later)
    assert [turn.recalled for turn in turns] == [
        ("git-commit",),
        ("docker-deploy",),
        ("docker-deploy",),  # of the same exchange
        ("schema-review",),
        ("schema-review",),
        ("docker-deploy",),  # the edited message has a block of its own
        (),  # the fork holds it already
        ("git-commit",),  # after a compaction it is recalled anew
        ("docker-deploy",),  # and where the answer before the message is cut off, by which it would be known
        (),
    ]
