"""What the gateway adds to a conversation, and whose it is."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from metaclaw.skills.retired import set_retired
from tests.fakes.llm import fake_llm
from tests.gateway.running import RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

QUESTION = "Please write a commit message for these git changes"


def write_skill(home: Path, name: str, description: str, body: str = "Use the imperative.", owner: str = "") -> Path:
    folder = home / "skills" / owner / name
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(f"---\nname: {name}\ndescription: {description}\n---\n{body}\n")
    return folder


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def test_a_fitting_skill_is_recalled_and_stays_on_its_message(tmp_path: Path) -> None:
    """DESIGN: recall never breaks the prompt cache."""
    write_skill(tmp_path, "git-commit", "Write git commit messages")
    history = [{"role": "system", "content": "Be brief."}, user(QUESTION)]
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        async with gateway.post({"messages": history}, **{"X-Session-Id": "s"}) as response:
            assert response.headers["X-MetaClaw-Recalled"] == "1"
            answer = (await response.json())["choices"][0]["message"]
        longer = [*history, answer, user("thanks, and what is the capital of France?")]
        async with gateway.post({"messages": longer}, **{"X-Session-Id": "s"}) as response:
            assert response.headers["X-MetaClaw-Recalled"] == "0"
        first, second = await gateway.turns()
    sent = [request["messages"] for request in llm.requests]
    assert sent[0][1]["content"].startswith(f"{QUESTION}\n\n<metaclaw-recall>")
    assert "Use the imperative." in sent[0][1]["content"]
    assert sent[1][:2] == sent[0]
    assert sent[1][2:] == longer[2:]
    assert (first.recalled, second.recalled) == (("git-commit",), ())
    assert first.exchange != second.exchange


async def test_side_turns_are_forwarded_as_they_are(tmp_path: Path) -> None:
    write_skill(tmp_path, "git-commit", "Write git commit messages")
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        async with gateway.post({"messages": [user(QUESTION)]}, **{"X-Turn-Type": "side"}) as response:
            assert response.headers["X-MetaClaw-Recalled"] == "0"
        [turn] = await gateway.turns()
    assert llm.requests[0]["messages"] == [user(QUESTION)]
    assert turn.kind == "side"


async def test_a_compaction_repeats_the_prompt_that_the_provider_has_in_its_cache(tmp_path: Path) -> None:
    """So do Claude Code's suggestions, one for each turn: all that was said was charged in full."""
    write_skill(tmp_path, "git-commit", "Write git commit messages")
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        async with gateway.post({"messages": [user(QUESTION)]}) as response:
            answer = (await response.json())["choices"][0]["message"]
        order = user("You are performing a CONTEXT CHECKPOINT COMPACTION. Write another commit message for git changes")
        async with gateway.post({"messages": [user(QUESTION), answer, order]}) as response:
            assert response.headers["X-MetaClaw-Recalled"] == "0"
        first, compaction = await gateway.turns()
    said, compacted = (request["messages"] for request in llm.requests)
    assert "<metaclaw-recall>" in said[0]["content"]
    assert compacted == [*said, answer, order]
    assert (compaction.kind, compaction.recalled, compaction.session) == ("side", (), first.session)


async def test_an_agents_own_skills_are_its_own(tmp_path: Path) -> None:
    write_skill(tmp_path, "git-commit", "Write git commit messages", owner="ops")
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for agent, expected in (("ops", "1"), ("research", "0")):
            async with gateway.post({"messages": [user(QUESTION)]}, **{"X-Agent-Id": agent}) as response:
                assert response.headers["X-MetaClaw-Recalled"] == expected


async def test_the_turns_of_a_tool_loop_are_one_exchange(tmp_path: Path) -> None:
    """OpenClaw moves the context that it injects to the end of each request of a loop."""
    internal = user("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>now<<<END_OPENCLAW_INTERNAL_CONTEXT>>>")
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": {
        "name": "ls", "arguments": "{}"}}]}  # fmt: skip
    result = {"role": "tool", "tool_call_id": "call1", "content": "a.txt"}
    loop = [[user("list"), internal], [user("list"), call, result, internal]]
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for messages in (*loop, [*loop[1], {"role": "assistant", "content": "a.txt"}, user("list")]):
            async with gateway.post({"messages": messages}, **{"X-Session-Id": "s"}) as response:
                assert response.status == 200
        turns = await gateway.turns()
    assert turns[0].exchange == turns[1].exchange != turns[2].exchange


async def test_without_a_session_header_each_conversation_is_a_session(tmp_path: Path) -> None:
    """PITFALLS P8: clients without headers shared one session."""
    talks = [
        [user("tell me of cats")],
        [user("tell me of cats"), {"role": "assistant", "content": "Hello from the fake model."}, user("more")],
        [user("tell me of dogs")],
        [user("tell me of cats")],
    ]
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for messages in talks:
            async with gateway.post({"messages": messages}) as response:
                assert response.status == 200
        sessions = [turn.session for turn in await gateway.turns()]
    assert sessions[0] == sessions[1]
    assert len(set(sessions)) == 3


async def test_identity_comes_from_headers_then_from_the_path(tmp_path: Path) -> None:
    path = "/agents/ops/v1/chat/completions"
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for headers in ({}, {"X-Agent-Id": "Research"}):
            async with gateway.post({"messages": [user("hello")]}, path, **headers) as response:
                assert response.status == 200
        assert [turn.agent for turn in await gateway.turns()] == ["ops", "research"]


async def test_a_full_disk_costs_the_record_never_the_reply(tmp_path: Path) -> None:
    """PITFALLS, run under faults: the disk fills while running. Here the file refuses to grow."""
    write_skill(tmp_path, "git-commit", "Write git commit messages")
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        await asyncio.to_thread(_forbid_writes, tmp_path / "turns.db")
        async with gateway.post({"messages": [user(QUESTION)]}) as response:
            assert response.status == 200
            assert (await response.json())["choices"][0]["message"]["content"] == "Hello from the fake model."
        health = await (await gateway.http.get(f"{gateway.url}/healthz")).json()
    assert health["recording_failures"] > 0
    assert llm.requests[0]["messages"] == [user(QUESTION)]


async def test_what_was_recalled_stays_while_the_disk_is_full(tmp_path: Path) -> None:
    """Every prompt of the conversation would be another one, and the provider's cache would be lost twice."""
    write_skill(tmp_path, "git-commit", "Write git commit messages")
    talk = [user(QUESTION), {"role": "assistant", "content": "fix: typo"}, user("thanks")]
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        session = {"X-Session-Id": "s"}
        async with gateway.post({"messages": talk[:1]}, **session) as response:
            assert response.headers["X-MetaClaw-Recalled"] == "1"
        await asyncio.to_thread(_forbid_writes, tmp_path / "turns.db")
        async with gateway.post({"messages": talk}, **session) as response:
            assert response.status == 200
        assert gateway.recorder.num_failures > 0
    before, after = (request["messages"] for request in llm.requests)
    assert after[: len(before)] == before != talk[:1]


def _forbid_writes(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TRIGGER no_turns BEFORE INSERT ON turns BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
    db.execute("CREATE TRIGGER no_blocks BEFORE INSERT ON recall_blocks BEGIN SELECT RAISE(FAIL, 'full'); END")
    db.commit()
    db.close()


async def test_a_starter_skill_is_recalled_until_it_is_switched_off(tmp_path: Path) -> None:
    body = {"messages": [user("Resolve the merge conflicts of this git rebase")]}

    async def recalled(gateway: RunningGateway) -> str:
        async with gateway.post(body) as response:
            return response.headers["X-MetaClaw-Recalled"]

    async with fake_llm() as llm:
        settings = make_settings(tmp_path, llm_url=llm.url, skills={"starter": True})
        async with running_gateway(settings) as gateway, asyncio.timeout(60):
            assert await recalled(gateway) != "0"
            names = {name for turn in await gateway.turns() for name in turn.recalled}
            assert "git-merge-conflicts" in names
            for name in names:
                await asyncio.to_thread(set_retired, settings.skills_dir, "main", name, retired=True)
            while "git-merge-conflicts" in (await gateway.turns())[-1].recalled:
                await recalled(gateway)
