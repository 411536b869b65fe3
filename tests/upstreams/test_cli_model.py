"""Subscriptions: what their programs are told, what they may, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tomllib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Protocol

import pytest
from pydantic import SecretStr

from metaclaw.chat.messages import JsonObject
from metaclaw.config import Settings
from metaclaw.errors import ConfigError, InvalidRequestError, UpstreamError
from metaclaw.locks import exclusive_lock
from metaclaw.upstreams.cli_model import CliModel, CliSettings
from metaclaw.upstreams.cli_programs import PROGRAMS
from metaclaw.upstreams.configured import open_pool
from metaclaw.upstreams.pool import Outbound
from metaclaw.upstreams.session import new_session
from metaclaw.upstreams.upstream import Timeouts
from tests.fakes.cli_program import CliProgram, cli_program

pytestmark = pytest.mark.anyio

TOKEN = "sk-subscription-token"
SECRET_PROMPT = "the prompt, which nobody else may see"

CLAUDE: tuple[Any, ...] = (
    "this line is no JSON",
    {"type": "system", "subtype": "init", "tools": []},
    {"type": "stream_event", "event": {"type": "content_block_delta", "delta": {"thinking": "Hm."}}},
    {"type": "stream_event", "event": {"type": "content_block_delta", "delta": {"text": "Hello"}}},
    {"type": "stream_event", "event": {"type": "content_block_delta", "delta": {"text": " you."}}},
    {
        "type": "result", "is_error": False, "result": "Hello you.", "stop_reason": "max_tokens",
        "usage": {
            "input_tokens": 5, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 1, "output_tokens": 3,
        },
    },
)  # fmt: skip
CODEX: tuple[Any, ...] = (
    {"type": "thread.started", "thread_id": "t"},
    {"type": "item.completed", "item": {"type": "error", "message": "a warning"}},
    {"type": "item.completed", "item": {"type": "reasoning", "text": "Hm."}},
    {"type": "item.completed", "item": {"type": "agent_message", "text": "Hello you."}},
    {"type": "turn.completed", "usage": {"input_tokens": 8, "cached_input_tokens": 2, "output_tokens": 3}},
)
GEMINI: tuple[Any, ...] = (
    {"type": "init", "model": "m"},
    {"type": "message", "role": "user", "content": "what was asked"},
    {"type": "message", "role": "assistant", "content": "Hello", "delta": True},
    {"type": "message", "role": "assistant", "content": " you.", "delta": True},
    {"type": "result", "status": "success", "stats": {"input_tokens": 8, "output_tokens": 3, "cached": 2}},
)
LINES = {"claude": CLAUDE, "codex": CODEX, "gemini": GEMINI}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def program(tmp_path: Path) -> CliProgram:
    return cli_program(tmp_path / "program")


class Maker(Protocol):
    def __call__(
        self, name: str = "claude", *, token: str = TOKEN, at_once: int = 2, **timeouts: float
    ) -> CliModel: ...


@pytest.fixture
async def make(program: CliProgram, tmp_path: Path) -> AsyncGenerator[Maker]:
    """Makes models that run ``program``, and closes them."""
    made: list[CliModel] = []

    def maker(name: str = "claude", **more: Any) -> CliModel:
        made.append(model_of(program, tmp_path, name, **more))
        return made[-1]

    yield maker
    for model in made:
        await model.close()
    assert not (tmp_path / "subscriptions").exists() or not list((tmp_path / "subscriptions").iterdir())


def model_of(
    program: CliProgram, home: Path, name: str, *, token: str = TOKEN, at_once: int = 2, **timeouts: float
) -> CliModel:
    settings = CliSettings(
        name=name,
        command=str(program.path),
        token=SecretStr(token),
        model_id="m-1",
        max_concurrent=at_once,
        timeouts=Timeouts(**{"first_byte_s": 60.0, "gap_s": 60.0, **timeouts}),
        folder=home / "subscriptions",
    )
    return CliModel(PROGRAMS[name], settings)


def body(**more: Any) -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SECRET_PROMPT}]
    return json.dumps({"model": "m-1", "messages": messages, **more}).encode()


async def answer(model: CliModel, request: bytes) -> JsonObject:
    reply = await model.send("openai.chat", request)
    try:
        return json.loads(await reply.read())
    finally:
        reply.close()


@pytest.mark.parametrize("name", PROGRAMS)
async def test_an_answer_is_a_chat_completion_with_its_usage(program: CliProgram, make: Maker, name: str) -> None:
    program.plan(*LINES[name])
    got = await answer(make(name), body())
    [choice] = got["choices"]
    assert choice["message"]["content"] == "Hello you."
    assert choice["message"].get("reasoning_content") == (None if name == "gemini" else "Hm.")
    assert choice["finish_reason"] == ("length" if name == "claude" else "stop")
    assert (got["model"], got["object"]) == ("m-1", "chat.completion")
    usage = got["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (8, 3, 11)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 2


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_stream_is_chat_chunks_as_the_program_says_them(program: CliProgram, make: Maker, name: str) -> None:
    program.plan(*LINES[name])
    reply = await make(name).send("openai.chat", body(stream=True, stream_options={"include_usage": True}))
    assert reply.content_type == "text/event-stream"
    events = [event.removeprefix("data: ") for event in (await reply.read()).decode().split("\n\n") if event]
    reply.close()
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Hello you."
    assert chunks[-2]["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"]["total_tokens"] == 11


@pytest.mark.parametrize("name", PROGRAMS)
async def test_the_prompt_and_the_token_are_in_no_argument_and_the_program_finds_an_empty_folder(
    program: CliProgram, tmp_path: Path, make: Maker, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PITFALLS S3, S7: permissions bypassed, prompts in argv."""
    monkeypatch.setenv("SOMEBODYS_API_KEY", "sk-another")
    program.plan(*LINES[name])
    await answer(make(name), body())
    [run] = program.runs()
    assert SECRET_PROMPT in run.prompt
    said = "\n".join(run.arguments)
    assert SECRET_PROMPT not in said
    assert "Be brief." not in said
    assert TOKEN not in said
    assert "bypass" not in said
    assert "dangerously" not in said
    assert run.env[PROGRAMS[name].token_variable] == TOKEN
    assert "SOMEBODYS_API_KEY" not in run.env
    assert run.env["HOME"].startswith(str(tmp_path / "subscriptions"))
    assert run.work == []
    assert run.mode == "0o700"
    told = run.prompt + "".join(run.files.values())
    assert "Be brief." in told


async def test_claude_has_no_tools_and_no_rights(program: CliProgram, make: Maker) -> None:
    """PITFALLS S3: whatever came to an open port was told to a program that might do everything."""
    program.plan(*CLAUDE)
    await answer(make(), body())
    [run] = program.runs()
    for argument in ("--tools=", "--permission-mode=dontAsk", "--strict-mcp-config", "--setting-sources="):
        assert argument in run.arguments
    [settings] = [argument for argument in run.arguments if argument.startswith("--settings=")]
    assert "Read(//**)" in json.loads(settings.removeprefix("--settings="))["permissions"]["deny"]
    assert run.env["CLAUDE_CODE_DISABLE_ATTACHMENTS"] == "1"


async def test_codex_has_no_tools_and_no_rights(program: CliProgram, make: Maker) -> None:
    """PITFALLS S3."""
    program.plan(*CODEX)
    await answer(make("codex"), body())
    [run] = program.runs()
    assert {"--sandbox=read-only", '--config=approval_policy="never"', '--config=web_search="disabled"'} <= {
        *run.arguments
    }
    assert {"--ignore-user-config", "--ignore-rules", "--ephemeral"} <= {*run.arguments}
    for feature in ("shell_tool", "unified_exec", "apps", "browser_use", "computer_use", "plugins", "hooks"):
        assert f"--disable={feature}" in run.arguments


async def test_gemini_has_no_tools_and_no_rights(program: CliProgram, make: Maker) -> None:
    """PITFALLS S3."""
    program.plan(*GEMINI)
    for token in (TOKEN, ""):
        await answer(make("gemini", token=token), body())
    for run in program.runs():
        files = {Path(path).name: text for path, text in run.files.items()}
        [policy] = [one for one in run.arguments if one.startswith("--admin-policy=")]
        [rule] = tomllib.loads(files[Path(policy).name])["rule"]
        assert (rule["toolName"], rule["decision"]) == ("*", "deny")
        settings = json.loads(files[Path(run.env["GEMINI_CLI_SYSTEM_SETTINGS_PATH"]).name])
        assert (settings["tools"], settings["mcpServers"]) == ({"core": []}, {})
        assert (settings["hooksConfig"], settings["skills"]) == ({"enabled": False}, {"enabled": False})
        assert {"--approval-mode=default", "--extensions=none", "--allowed-mcp-server-names=none"} <= {*run.arguments}


async def test_without_a_token_the_program_finds_the_users_own_login(program: CliProgram, make: Maker) -> None:
    program.plan(*CLAUDE)
    await answer(make(token=""), body())
    [run] = program.runs()
    assert run.env["HOME"] == str(Path.home())
    assert "CLAUDE_CODE_OAUTH_TOKEN" not in run.env


async def test_a_conversation_is_told_in_order_and_never_begins_like_a_command(
    program: CliProgram, make: Maker
) -> None:
    program.plan(*CLAUDE)
    turns = [
        {"role": "user", "content": "/help"},
        {"role": "assistant", "content": "With what?"},
        {"role": "user", "content": [{"type": "text", "text": "this"}]},
    ]
    await answer(make(), body(messages=turns))
    await answer(make(), body(messages=turns[:1]))
    whole, alone = [run.prompt for run in program.runs()]
    assert whole.endswith("User:\n/help\n\nAssistant:\nWith what?\n\nUser:\nthis")
    assert not whole.startswith("/")
    assert alone.endswith("User:\n/help")


CANNOT_BE_ASKED: list[tuple[JsonObject, str]] = [
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"n": 2}, "n"),
    ({"stop": ["x"]}, "stop"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"model": "--dangerously-skip-permissions"}, "model"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
    ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
]


@pytest.mark.parametrize(("more", "param"), CANNOT_BE_ASKED)
async def test_what_a_program_cannot_be_asked_is_refused_by_name(
    program: CliProgram, make: Maker, more: JsonObject, param: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await make().send("openai.chat", body(**more))
    assert caught.value.param == param
    with pytest.raises(InvalidRequestError, match=r"openai\.chat only"):
        await make().send("openai.responses", body())
    assert program.runs() == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("claude", {"type": "stream_event", "event": {"content_block": {"type": "tool_use", "name": "Bash"}}}),
        ("codex", {"type": "item.started", "item": {"type": "command_execution"}}),
        ("gemini", {"type": "tool_use", "tool_name": "run_shell_command"}),
    ],
)
async def test_a_program_that_wants_to_use_a_tool_is_killed(
    program: CliProgram, make: Maker, name: str, line: JsonObject
) -> None:
    program.plan(line, holds=True)
    with pytest.raises(UpstreamError, match="wanted to use a tool"):
        await make(name).send("openai.chat", body())


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ({"type": "result", "is_error": True, "result": "x", "api_error_status": 429}, 429, "claude failed: x"),
        ({"type": "result", "is_error": True, "result": "x", "api_error_status": 401}, 401, "run `claude setup-token`"),
        ({"type": "result", "is_error": True, "result": f"no {TOKEN}"}, 502, r"claude failed: no \*\*\*"),
        ("nothing", 502, "exit code 3: the last line"),
    ],
)
async def test_a_program_that_fails_says_why(
    program: CliProgram, make: Maker, line: Any, status: int, says: str
) -> None:
    program.plan(line, code=3, complaint="first\nthe last line\n")
    with pytest.raises(UpstreamError, match=says) as caught:
        await make().send("openai.chat", body())
    assert caught.value.status == status
    assert TOKEN not in str(caught.value)


async def test_a_program_that_is_not_there_or_reads_nothing_is_an_upstream_error(
    program: CliProgram, make: Maker
) -> None:
    program.plan(code=1, complaint="unknown flag", reads=False)
    with pytest.raises(UpstreamError, match="unknown flag"):
        await make().send("openai.chat", body(messages=[{"role": "user", "content": "x" * 2**20}]))
    program.path.unlink()
    with pytest.raises(UpstreamError, match="cannot be started"):
        await make().send("openai.chat", body())


async def test_a_turn_that_is_left_kills_the_program_and_what_it_started(
    program: CliProgram, tmp_path: Path, make: Maker
) -> None:
    fifo = tmp_path / "held-by-a-child"
    os.mkfifo(fifo)
    program.plan(*CLAUDE[:4], holds=True, fifo=fifo)
    reply = await make().send("openai.chat", body(stream=True))
    with await asyncio.to_thread(fifo.open, "rb", buffering=0) as child:
        assert await asyncio.to_thread(child.read, 1) == b"x"
        reply.close()
        assert await asyncio.to_thread(child.read, 1) == b""  # its only writer is dead


async def test_a_cancelled_turn_kills_the_program(program: CliProgram, tmp_path: Path, make: Maker) -> None:
    fifo = tmp_path / "held-by-a-child"
    os.mkfifo(fifo)
    program.plan(holds=True, fifo=fifo)
    turn = asyncio.create_task(make().send("openai.chat", body()))
    with await asyncio.to_thread(fifo.open, "rb", buffering=0) as child:
        assert await asyncio.to_thread(child.read, 1) == b"x"
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert await asyncio.to_thread(child.read, 1) == b""


async def test_silence_before_and_inside_an_answer_has_its_limit(program: CliProgram, make: Maker) -> None:
    program.plan(holds=True)
    with pytest.raises(UpstreamError, match=r"said nothing for 0\.2 s") as caught:
        await make(first_byte_s=0.2).send("openai.chat", body())
    assert caught.value.status == 504
    program.plan(*CLAUDE[:4], holds=True)
    reply = await make(gap_s=0.2).send("openai.chat", body(stream=True))
    with pytest.raises(UpstreamError, match=r"fell silent for 0\.2 s"):
        await reply.read()
    reply.close()


async def test_no_more_run_at_once_than_are_allowed(program: CliProgram, make: Maker) -> None:
    """PITFALLS P10: a process for every request, whose sessions met."""
    model = make(at_once=1)
    program.plan(*CLAUDE[:4], holds=True)
    first = await model.send("openai.chat", body(stream=True))
    second = asyncio.create_task(model.send("openai.chat", body()))
    done, _ = await asyncio.wait([second], timeout=0.3)
    assert not done
    assert len(program.runs()) == 1
    program.plan(*CLAUDE)
    first.close()
    reply = await second
    assert json.loads(await reply.read())["choices"]
    reply.close()


async def test_the_settings_of_a_subscription_are_a_member_of_the_pool(
    program: CliProgram, tmp_path: Path, make: Maker
) -> None:
    program.plan(*CLAUDE)
    llm = {"provider": "anthropic", "auth_method": "oauth_token", "oauth_token": TOKEN, "cli_path": program.path}
    async with new_session() as session:
        pool = open_pool(Settings.model_validate({"llm": llm, "home": tmp_path}), session)
        assert pool is not None
        sent = await pool.send(lambda _client: Outbound(dialect="openai.chat", body=body()))
        assert json.loads(await sent.reply.read())["choices"][0]["message"]["content"] == "Hello you."
        sent.reply.close()
        await pool.close()
        assert [state.credential for state in pool.snapshot()] == ["llm.oauth_token"]
        assert program.runs()[0].env["CLAUDE_CODE_OAUTH_TOKEN"] == TOKEN
        with pytest.raises(ConfigError, match=r"one of anthropic.*not 'openai'"):
            open_pool(Settings.model_validate({"llm": {**llm, "provider": "openai"}}), session)
    assert await make().models() == [{"id": "m-1", "object": "model", "owned_by": "claude"}]


@pytest.mark.parametrize("name", PROGRAMS)
async def test_half_of_a_character_is_told_by_its_escape(program: CliProgram, make: Maker, name: str) -> None:
    program.plan(*LINES[name])
    messages = [{"role": "system", "content": "Be \ud83d."}, {"role": "user", "content": "hello \udc4b"}]
    await answer(make(name), json.dumps({"model": "m-1", "messages": messages}).encode())
    [run] = program.runs()
    assert "hello \\udc4b" in run.prompt
    assert "Be \\ud83d." in run.prompt + "".join(run.files.values())


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="only there is known where a process works")
async def test_a_program_that_outlived_its_gateway_is_ended_with_its_folder(
    program: CliProgram, make: Maker, tmp_path: Path
) -> None:
    work = tmp_path / "subscriptions" / "run-left" / "work"
    work.mkdir(parents=True)
    left = await asyncio.create_subprocess_exec("sleep", "600", cwd=work, start_new_session=True)
    other = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    for process, folder in ((left, work.parent), (other, tmp_path / "subscriptions" / "run-other")):
        (folder / "work").mkdir(parents=True, exist_ok=True)
        (folder / "held").write_text(str(process.pid))
        os.utime(folder, (0, 0))
    program.plan(*CLAUDE)
    await answer(make(), body())
    assert await left.wait() == -signal.SIGKILL
    assert other.returncode is None, "another's, which has the number by now"
    other.kill()
    await other.wait()


async def test_what_a_killed_gateway_left_goes_and_what_another_uses_stays(
    program: CliProgram, make: Maker, tmp_path: Path
) -> None:
    folder = tmp_path / "subscriptions"
    left, used = folder / "run-left", folder / "run-used"
    for path in (left, used):
        path.mkdir(parents=True)
        (path / "held").touch()
        (path / "system").write_text("a client's own words")
        os.utime(path, (0, 0))
    program.plan(*CLAUDE)
    with exclusive_lock(used / "held", wait=False):
        await answer(make(), body())
        assert not left.exists()
        assert used.exists()
    shutil.rmtree(used)
