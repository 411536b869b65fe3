"""``python -m metaclaw.gateway`` as a real process: started, killed, told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from metaclaw.config import Settings
from metaclaw.config_file import dump_settings
from tests.fakes.llm import Answer, FakeLlm, fake_llm
from tests.gateway.running import TOKEN, make_settings, read_turns

pytestmark = pytest.mark.anyio

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
STREAM = {"messages": [{"role": "user", "content": "hello"}], "stream": True}


@asynccontextmanager
async def process(settings: Settings) -> AsyncGenerator[Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "metaclaw.gateway", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert child.stdin is not None
    child.stdin.write(dump_settings(settings).encode() + b"\n")
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def until_ready(http: aiohttp.ClientSession, url: str) -> None:
    for _ in range(400):
        try:
            async with http.get(f"{url}/healthz") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)
    raise AssertionError("the gateway did not become ready")


def port_settings(home: Path, llm: FakeLlm) -> tuple[Settings, str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return make_settings(home, llm_url=llm.url, proxy={"port": port}), f"http://127.0.0.1:{port}"


async def begin_stream(http: aiohttp.ClientSession, url: str) -> aiohttp.ClientResponse:
    response = await http.post(f"{url}/v1/chat/completions", json=STREAM, headers=HEADERS)
    assert response.status == 200
    await response.content.readany()
    return response


async def test_a_gateway_killed_in_mid_stream_leaves_a_cut_turn(tmp_path: Path) -> None:
    """PITFALLS, run under faults: kill -9, and 0 of 8 turns kept on SIGTERM with an open session."""
    async with fake_llm(lambda body: Answer(hold_after=2 if body.get("stream") else None)) as llm:
        settings, url = port_settings(tmp_path, llm)
        async with aiohttp.ClientSession() as http:
            async with process(settings) as gateway:
                await until_ready(http, url)
                plain = {**STREAM, "stream": False}
                async with http.post(f"{url}/v1/chat/completions", json=plain, headers=HEADERS) as response:
                    done = response.headers["X-MetaClaw-Turn"]
                stream = await begin_stream(http, url)
                gateway.kill()
                await gateway.wait()
                with pytest.raises(aiohttp.ClientError):
                    await stream.read()
            async with process(settings):
                await until_ready(http, url)
                turns = {turn.id: turn for turn in await asyncio.to_thread(read_turns, tmp_path)}
    assert turns[done].state == "done"
    assert turns[stream.headers["X-MetaClaw-Turn"]].state == "cut"


async def test_kill_9_under_load_loses_and_doubles_no_turn(tmp_path: Path) -> None:
    """PITFALLS, run under faults: kill -9 right after the answer kept 1 of 5 sessions."""
    begun: set[str] = set()
    seen: dict[str, str] = {}
    is_enough = asyncio.Event()

    async def talk(http: aiohttp.ClientSession, url: str, name: int) -> None:
        with contextlib.suppress(aiohttp.ClientError):
            for number in itertools.count():
                said = f"{name}/{number}"
                body = {**STREAM, "messages": [{"role": "user", "content": said}], "stream": name % 2 == 0}
                async with http.post(f"{url}/v1/chat/completions", json=body, headers=HEADERS) as response:
                    turn = response.headers["X-MetaClaw-Turn"]
                    begun.add(turn)
                    answer = await response.read()
                if not body["stream"] or b"[DONE]" in answer:
                    seen[turn] = f"You said {said}."
                if len(seen) == 60:
                    is_enough.set()

    def echo(body: dict[str, Any]) -> Answer:
        return Answer(text=f"You said {body['messages'][-1]['content']}.")

    async with fake_llm(echo) as llm, aiohttp.ClientSession() as http:
        settings, url = port_settings(tmp_path, llm)
        async with process(settings) as gateway:
            await until_ready(http, url)
            talking = [asyncio.create_task(talk(http, url, name)) for name in range(6)]
            await is_enough.wait()
            gateway.kill()
            await gateway.wait()
            await asyncio.gather(*talking)
        async with process(settings):
            await until_ready(http, url)
        turns = await asyncio.to_thread(read_turns, tmp_path)
    found = {turn.id: turn for turn in turns}
    assert len(found) == len(turns)
    assert begun <= found.keys()
    for turn, text in seen.items():
        assert (found[turn].state, found[turn].answer) == ("done", {"role": "assistant", "content": text})
    assert {turn.state for turn in turns} <= {"done", "cut"}


async def test_an_idle_connection_outlives_what_clients_keep_it_for(tmp_path: Path) -> None:
    """httpx drops idle connections after 5 s; a server that closes at that moment fails the client's next request."""
    async with fake_llm() as llm:
        settings, url = port_settings(tmp_path, llm)
        async with process(settings), aiohttp.ClientSession() as http:
            await until_ready(http, url)
            reader, writer = await asyncio.open_connection("127.0.0.1", settings.proxy.port)
            for pause_s in (5.5, 0):
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
                await reader.readuntil(b"}")
                await asyncio.sleep(pause_s)
            writer.close()
            await writer.wait_closed()


async def test_the_memory_as_a_process_keeps_to_the_same_limits(tmp_path: Path) -> None:
    """The gateway's requests met connections that were just being closed, 5 s after the last, and recalled nothing."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {**os.environ, "METACLAW_HOME": str(tmp_path), "METACLAW_PROXY_API_KEY": TOKEN}
    command = ("-m", "metaclaw.cli.main", "memory", "serve", "--port", str(port))
    child = await asyncio.create_subprocess_exec(sys.executable, *command, env=env)
    try:
        async with aiohttp.ClientSession() as http:
            await until_ready(http, f"http://127.0.0.1:{port}")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for pause_s in (5.5, 0):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readuntil(b"}")
            await asyncio.sleep(pause_s)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000 + b"\r\n\r\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 431")
        writer.close()
    finally:
        child.kill()
        await child.wait()


async def test_a_gateway_that_is_stopped_and_goes_on_has_lost_no_answer(tmp_path: Path) -> None:
    """A container that is paused, a machine that sleeps: what had come meanwhile was not read, so that every answer
    under way ended with "fell silent" as soon as it went on."""
    async with fake_llm(lambda body: Answer(hold_after=2)) as llm:
        settings, url = port_settings(tmp_path, llm)
        llm_settings = settings.llm.model_copy(update={"gap_timeout_s": 1.0, "first_byte_timeout_s": 1.0})
        settings = settings.model_copy(update={"llm": llm_settings})
        async with aiohttp.ClientSession() as http, process(settings) as gateway:
            await until_ready(http, url)
            stream = await begin_stream(http, url)
            gateway.send_signal(signal.SIGSTOP)
            llm.go_on.set()
            await asyncio.sleep(3)
            gateway.send_signal(signal.SIGCONT)
            assert (await stream.read()).endswith(b"data: [DONE]\n\n")


async def test_sigterm_lets_running_streams_end(tmp_path: Path) -> None:
    async with fake_llm(lambda _: Answer(hold_after=2)) as llm, aiohttp.ClientSession() as http:
        settings, url = port_settings(tmp_path, llm)
        async with process(settings) as gateway:
            await until_ready(http, url)
            stream = await begin_stream(http, url)
            gateway.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert gateway.returncode is None
            llm.go_on.set()
            assert b"[DONE]" in await stream.read()
            assert await gateway.wait() == 0
            assert gateway.stdout is not None
            assert await gateway.stdout.read() == b""
    [turn] = await asyncio.to_thread(read_turns, tmp_path)
    assert turn.state == "done"


async def test_the_end_of_the_parent_ends_the_gateway_and_cuts_turns_that_go_on(tmp_path: Path) -> None:
    async with fake_llm(lambda _: Answer(hold_after=2)) as llm, aiohttp.ClientSession() as http:
        settings, url = port_settings(tmp_path, llm)
        async with process(settings) as gateway:
            await until_ready(http, url)
            stream = await begin_stream(http, url)
            asking = asyncio.create_task(
                http.post(f"{url}/v1/chat/completions", json={**STREAM, "stream": False}, headers=HEADERS)
            )
            while len(llm.requests) < 2:  # noqa: ASYNC110 - the fake has no event for the second
                await asyncio.sleep(0.01)
            assert gateway.stdin is not None
            gateway.stdin.close()
            assert await asyncio.wait_for(gateway.wait(), 20) == 0
            stream.close()
            async with await asking as waiting:  # which may be asked again
                assert (waiting.status, waiting.headers["Retry-After"]) == (503, "5")
                assert (await waiting.json())["error"]["code"] == "upstream_error"
            assert gateway.stderr is not None
            said = await gateway.stderr.read()
            assert b"Cancel 2 running task(s)" in said
            assert b"Exception" not in said, "each answer that a stop cuts was a traceback in the log"
    turns = await asyncio.to_thread(read_turns, tmp_path)
    assert [(turn.state, turn.answer) for turn in turns] == [
        ("cut", {"role": "assistant", "content": "Hello "}),
        ("cut", None),
    ]


async def test_what_cannot_be_started_says_why_and_ends_with_code_2(tmp_path: Path) -> None:
    async with fake_llm() as llm:
        settings, _ = port_settings(tmp_path, llm)
        with socket.create_server(("127.0.0.1", settings.proxy.port)):
            assert await _refusal(settings) == (2, "proxy.port")
        assert await _refusal(make_settings(tmp_path, llm={"provider": "opnai"})) == (2, "llm.api_base")
        assert await _refusal(make_settings(tmp_path, proxy={"api_key": ""})) == (2, "proxy.api_key")


async def test_prices_that_cannot_be_read_are_one_line_and_end_with_code_2(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("my-model: cheap\n")
    async with process(make_settings(tmp_path, llm_url="http://127.0.0.1:9/v1")) as child:
        _, errors = await child.communicate()
    assert child.returncode == 2
    [line] = [line for line in errors.decode().splitlines() if line.startswith("metaclaw gateway: ")]
    assert str(tmp_path / "prices.yaml") in line
    assert "Traceback" not in errors.decode()


async def test_a_journal_that_cannot_be_read_is_one_line_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "turns.db").write_bytes(b"no database" * 1000)
    async with process(make_settings(tmp_path, llm_url="http://127.0.0.1:9/v1")) as child:
        _, errors = await child.communicate()
    assert child.returncode == 2  # the same at each start: it is told at once
    said = b"turns.db: file is not a database. Nothing in it was changed."
    assert [said in line for line in errors.splitlines() if line.startswith(b"metaclaw gateway: ")] == [True]
    assert b"Traceback" not in errors
    assert (tmp_path / "turns.db").read_bytes() == b"no database" * 1000


async def test_two_gateways_never_share_a_home(tmp_path: Path) -> None:
    """PITFALLS, run under faults: a second instance on the same home truncated the records."""
    async with fake_llm() as llm, aiohttp.ClientSession() as http:
        first, url = port_settings(tmp_path, llm)
        second, _ = port_settings(tmp_path, llm)
        async with process(first):
            await until_ready(http, url)
            async with process(second) as other:
                _, errors = await other.communicate()
    assert other.returncode not in (0, 2, None)  # whoever holds it may end
    assert b"another MetaClaw gateway" in errors


async def _refusal(settings: Settings) -> tuple[int | None, str]:
    async with process(settings) as gateway:
        _, errors = await gateway.communicate()
        [line] = errors.decode().splitlines()
    return gateway.returncode, next(
        (name for name in ("proxy.port", "proxy.api_key", "llm.api_base") if name in line), line
    )
