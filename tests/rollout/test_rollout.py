"""Scripted conversations through a real gateway, with tools in a real sandbox; the model alone follows a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from metaclaw.journal.turns import TurnReader
from metaclaw.processes.confinement import Confinement, Unconfined
from metaclaw.processes.sandbox import Limits, Sandbox
from metaclaw.rollout.conversation import Result, Runner
from metaclaw.rollout.gateway_client import GatewayClient
from metaclaw.rollout.running import run_tasks, summary_of, told
from metaclaw.rollout.tasks import Task, Verifier
from metaclaw.rollout.tools import MAX_SHOWN, Tools
from metaclaw.rollout.verifying import verdict_of
from tests.cli.programs import metaclaw
from tests.fakes.llm import Answer, FakeLlm, fake_llm
from tests.gateway.running import TOKEN, RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

Json = dict[str, Any]


def calling(name: str, **arguments: str) -> Answer:
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": "call-1", "type": "function", "function": function}
    return Answer(message={"role": "assistant", "content": None, "tool_calls": [call]}, finish_reason="tool_calls")


def carpenter(body: Json) -> Answer:
    """Does what the user says after the colon, with the tool before it, and then says how that went."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return Answer(text=f"It said: {last['content']}")
    tool, _, rest = last["content"].partition(": ")
    if tool == "run":
        return calling("run_command", command=rest)
    if tool == "write":
        path, _, content = rest.partition("=")
        return calling("write_file", path=path, content=content)
    return Answer(text=rest)


@dataclass(frozen=True)
class World:
    gateway: RunningGateway
    llm: FakeLlm
    runner: Runner

    async def run(self, *tasks: Task, **more: int) -> list[Result]:
        ids = count(1)
        options = {"attempts": 1, "concurrency": 4, **more}
        return await run_tasks(self.runner, tasks, new_id=lambda: f"s{next(ids)}", **options)

    async def feedback(self, result: Result) -> list[float | None]:
        """What the journal has of each exchange of a session."""
        turns = [turn for turn in await self.gateway.turns() if turn.session == result.session]
        exchanges = list(dict.fromkeys(turn.exchange for turn in turns))
        return await asyncio.to_thread(_scores, self.gateway.home, exchanges)


def test_the_command_refuses_a_bad_file_before_it_asks_for_a_gateway(tmp_path: Path) -> None:
    tasks = tmp_path / "TASKS.jsonl"
    tasks.write_text('{"id": "a", "messages": ["x"]}\n{"id": "b"}\n', encoding="utf-8")
    refused = metaclaw(tmp_path, "rollout", str(tasks))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"{tasks}: line 2: messages: Field required" in refused.stderr
    tasks.write_text('{"id": "a", "messages": ["x"]}\n', encoding="utf-8")
    alone = metaclaw(tmp_path, "rollout", str(tasks), "--json")
    assert (alone.returncode, alone.stdout) == (2, "")
    assert "`metaclaw start` starts it" in alone.stderr


def _scores(home: Path, exchanges: list[str]) -> list[float | None]:
    with TurnReader.open(home / "turns.db") as reader:
        given = [reader.feedback(exchange) for exchange in exchanges]
    return [rows[-1].score if rows else None for rows in given]


@asynccontextmanager
async def world(home: Path, sandbox: Sandbox) -> AsyncGenerator[World]:
    async with fake_llm() as llm, running_gateway(make_settings(home, llm_url=llm.url)) as gateway:
        llm.script = carpenter
        model = GatewayClient(gateway.http, url=gateway.url, token=TOKEN, model="m")
        yield World(gateway, llm, Runner(model=model, sandbox=sandbox))


async def test_a_task_of_several_messages_is_done_with_tools_and_rewarded(tmp_path: Path, sandbox: Sandbox) -> None:
    """SPEC A12; PITFALLS B7: checkers lay in the workspace before the agent worked there."""
    task = Task.model_validate(
        {
            "id": "build", "system": "You build.", "files": {"plan/size.txt": "7"},
            "messages": [
                "write: out/a.txt=hello",
                {"content": "run: cat out/a.txt plan/size.txt", "verifier": {"contains": "hello7"}},
                "say: done",
            ],
            "verifier": {"command": 'test "$(cat out/a.txt)" = "$(cat expected)"', "files": {"expected": "other"}},
            "agent": "builder",
        }
    )  # fmt: skip
    async with world(tmp_path, sandbox) as here:
        [result] = await here.run(task)
        turns = await here.gateway.turns()
        rewards = await here.feedback(result)
        sent = here.llm.requests[-1]["messages"]
    assert (result.ending, result.error, result.turns, result.tool_calls) == ("finished", None, 5, 2)
    assert [one.answer for one in result.exchanges] == ["It said: wrote out/a.txt", "It said: hello7", "done"]
    assert [one.verdict.score if one.verdict else None for one in result.exchanges] == [-1.0, 1.0, -1.0]
    assert rewards == [-1.0, 1.0, -1.0], "what the verifiers found are the rewards"
    assert {(turn.agent, turn.session) for turn in turns} == {("builder", "rollout-s1")}
    assert [message["role"] for message in sent] == [
        "system", "user", "assistant", "tool", "assistant", "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    assert "expected" not in json.dumps(sent)


async def test_attempts_are_sessions_of_their_own_and_all_are_counted(tmp_path: Path, sandbox: Sandbox) -> None:
    good = Task.model_validate({"task_id": "good", "instruction": "say: yes", "verifier": {"contains": "yes"}})
    endless = Task.model_validate({"id": "endless", "messages": ["go on"], "max_turns": 3})

    def script(body: Json) -> Answer:
        is_endless = any(message["content"] == "go on" for message in body["messages"])
        return calling("run_command", command="echo again") if is_endless else carpenter(body)

    async with world(tmp_path, sandbox) as here:
        here.llm.script = script
        results = await here.run(good, endless, attempts=2)
    assert [(one.task, one.attempt, one.ending, one.turns) for one in results] == [
        ("good", 1, "finished", 1), ("good", 2, "finished", 1), ("endless", 1, "turns", 3), ("endless", 2, "turns", 3),
    ]  # fmt: skip
    assert len({one.session for one in results}) == 4
    summary = summary_of(results)
    assert (summary["runs"], summary["judged"], summary["errors"], summary["mean_score"]) == (4, 2, 0, 1.0)
    assert json.loads(json.dumps(told(results[0])))["exchanges"][0]["score"] == 1.0


async def test_a_gateway_that_fails_ends_that_task_unjudged(tmp_path: Path, sandbox: Sandbox) -> None:
    task = Task.model_validate({"id": "x", "messages": ["say: yes"], "verifier": {"contains": "yes"}})
    async with world(tmp_path, sandbox) as here:
        model = GatewayClient(here.gateway.http, url=here.gateway.url, token="wrong", model="m")
        [refused] = await replace(here, runner=replace(here.runner, model=model)).run(task)
        model = GatewayClient(here.gateway.http, url="http://127.0.0.1:9", token=TOKEN, model="m")
        [alone] = await replace(here, runner=replace(here.runner, model=model)).run(task)
        here.llm.script = lambda _: Answer(body=b'{"choices": [{"message": {"tool_calls": [7]}}]}')
        [strange] = await here.run(task)
    assert {(one.ending, one.score) for one in (refused, alone, strange)} == {("error", None)}
    assert strange.error is not None
    assert "in a form that is not known" in strange.error
    assert refused.error is not None
    assert "401" in refused.error
    assert alone.error is not None
    assert "`metaclaw start` starts it" in alone.error


async def test_tools_stay_in_the_folder_and_tell_the_model_what_went_wrong(
    tmp_path: Path, sandbox: Sandbox, confinement: Confinement
) -> None:
    """PITFALLS S5: the model's output ran in an unrestricted shell of the host."""
    outside = tmp_path / "outside.txt"
    outside.write_text("a secret", encoding="utf-8")
    folder = tmp_path / "work"
    folder.mkdir()
    tools = Tools(("shell", "files"), sandbox, folder)
    assert await tools.call("write_file", '{"path": "a/b.txt", "content": "x\\ny"}') == "wrote a/b.txt"
    assert await tools.call("read_file", '{"path": "a/b.txt"}') == "x\ny"
    assert await tools.call("list_files", "{}") == "./a/b.txt\n"
    assert "[exit status 3]" in await tools.call("run_command", '{"command": "echo out; exit 3"}')
    assert "No such file" in await tools.call("read_file", '{"path": "none"}')
    assert "not JSON" in await tools.call("read_file", '{"path": ')
    assert "'path' must be a string" in await tools.call("read_file", '{"path": 1}')
    assert "zero byte" in await tools.call("read_file", '{"path": "a\\u0000b"}')
    assert "there is no tool 'rm'" in await tools.call("rm", "{}")
    shown = await tools.call("run_command", '{"command": "yes | head -c 100000"}')
    assert MAX_SHOWN < len(shown) < MAX_SHOWN + 100
    only = Tools(("files",), sandbox, folder)
    assert "there is no tool 'run_command'" in await only.call("run_command", '{"command": "true"}')
    if not isinstance(confinement, Unconfined):
        (folder / "link").symlink_to(outside)
        assert "a secret" not in await tools.call("read_file", '{"path": "link"}')
        assert "a secret" not in await tools.call("read_file", json.dumps({"path": str(outside)}))
        await tools.call("write_file", '{"path": "link", "content": "changed"}')
        assert outside.read_text(encoding="utf-8") == "a secret"


async def test_a_command_that_takes_too_long_is_ended(tmp_path: Path, sandbox: Sandbox) -> None:
    hasty = replace(sandbox, limits=Limits(time_s=0.3))
    said = await Tools(("shell",), hasty, tmp_path).call(
        "run_command", '{"command": "echo begun; sleep 60 & sleep 60"}'
    )
    assert said.startswith("begun")
    assert "too much time" in said


@pytest.mark.parametrize(
    ("verifier", "score", "why"),
    [
        ({"command": "true"}, 1.0, ""),
        ({"command": "echo nope >&2; exit 1"}, -1.0, "nope"),
        ({"command": "exit 2"}, None, "ended with status 2"),
        ({"command": "sleep 60", "timeout_s": 0.3}, None, "took too much time"),
        ({"command": "grep -q four"}, 1.0, ""),
        ({"command": "echo 0.25", "graded": True}, 0.25, ""),
        ({"command": "echo well done 1", "graded": True}, None, "not one number"),
        ({"command": "echo 2", "graded": True}, None, "not one number"),
        ({"command": "exit 1", "graded": True}, None, "ended with status 1"),
    ],
)
async def test_a_verifier_that_cannot_say_gives_no_score(
    tmp_path: Path, sandbox: Sandbox, verifier: Json, score: float | None, why: str
) -> None:
    asked = Verifier.model_validate(verifier)
    verdict = await verdict_of(asked, answer="two and two is four", sandbox=sandbox, folder=tmp_path)
    assert verdict.score == score
    assert why in verdict.why


async def test_files_of_a_check_are_laid_over_whatever_is_in_their_place(
    tmp_path: Path, sandbox: Sandbox, confinement: Confinement
) -> None:
    if isinstance(confinement, Unconfined):
        pytest.skip("nothing confines commands on this machine")
    outside, folder = tmp_path / "outside", tmp_path / "work"
    outside.mkdir()
    folder.mkdir()
    (folder / "tests").symlink_to(outside)
    asked = Verifier(command="cat tests/check", files={"tests/check": "x"})
    verdict = await verdict_of(asked, answer="", sandbox=sandbox, folder=folder)
    assert verdict.score is None, "a link out of the folder leads nowhere"
    assert list(outside.iterdir()) == []
