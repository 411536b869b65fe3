"""Policies whose training server is away, refuses, or has a journal that breaks."""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest

from metaclaw.upstreams.pulse import Patience, Pulse
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.policies import KEY, V1, ask, rl_settings, sample_of, serve_version
from tests.gateway.running import running_gateway

pytestmark = pytest.mark.anyio


async def test_without_the_training_server_turns_go_to_the_configured_model_and_are_not_trained_on(
    tmp_path: Path,
) -> None:
    async with fake_llm() as llm:
        settings = rl_settings(tmp_path, None, llm={"api_base": llm.url, "model_id": "big-model"})
        async with running_gateway(settings) as gateway:
            response = await ask(gateway, True)
            [turn] = await gateway.turns()
            assert await sample_of(gateway, turn.id) is None
    assert "x-metaclaw-policy" not in response.headers
    assert (turn.upstream, turn.state) == ("fake", "done")
    assert llm.requests[0]["model"] == "big-model"


async def test_a_training_server_that_cannot_even_be_asked_leaves_the_turn_to_the_other_model(tmp_path: Path) -> None:
    """A port that speaks something else was a 500, and a turn that said the client had left."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with fake_llm() as llm, server:
        settings = rl_settings(tmp_path, None, rl={"remote_url": url}, llm={"api_base": llm.url})
        async with running_gateway(settings) as gateway:
            await ask(gateway)
            [turn] = await gateway.turns()
    assert (turn.upstream, turn.state) == ("fake", "done")


async def test_a_training_server_that_says_nothing_is_waited_for_once_and_not_by_every_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is asleep or stopped takes connections and answers none; a turn may take ten minutes there."""
    soon = Patience(look_every_s=0.05, look_s=0.05, max_misses=2, rest_s=60.0)
    monkeypatch.setattr("metaclaw.gateway.policy.Pulse", partial(Pulse, patience=soon))
    connections = 0

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with fake_llm() as llm, server:
        settings = rl_settings(tmp_path, None, rl={"remote_url": url}, llm={"api_base": llm.url})
        async with running_gateway(settings) as gateway:
            await serve_version(settings.home, "main", 1, V1)
            await ask(gateway)
            num_connections = connections
            await ask(gateway, True)
            first, second = await gateway.turns()
    assert connections == num_connections
    assert [(it["upstream"], it["status"]) for it in first.attempts] == [("policy", None), ("fake", 200)]
    assert [(it["upstream"], it["status"]) for it in second.attempts] == [("fake", 200)]
    assert (first.state, second.state) == ("done", "done")


@pytest.mark.parametrize("status", [301, 401, 402, 408, 500, 503])
async def test_what_is_no_fault_of_the_request_leaves_the_turn_to_the_other_model(tmp_path: Path, status: int) -> None:
    async with fake_llm() as llm, fake_llm(lambda _: Answer(status=status), api_key=KEY) as trainer:
        settings = rl_settings(tmp_path, trainer, llm={"api_base": llm.url})
        async with running_gateway(settings) as gateway:
            await ask(gateway)
            [turn] = await gateway.turns()
    assert (turn.upstream, turn.state) == ("fake", "done")
    assert [(it["upstream"], it["status"]) for it in turn.attempts] == [("policy", status), ("fake", 200)]
    assert {it["credential"] for it in turn.attempts} == {"rl.remote_api_key", "llm.api_key"}


async def test_with_nobody_to_answer_the_client_is_told_to_come_back(tmp_path: Path) -> None:
    """PITFALLS P2: requests were parked in threads for 300 s, and then refused."""
    async with running_gateway(rl_settings(tmp_path, None)) as gateway:
        with pytest.raises(openai.InternalServerError, match="cannot be reached") as caught:
            await ask(gateway)
        [turn] = await gateway.turns()
    assert caught.value.status_code == 503
    assert int(caught.value.response.headers["retry-after"]) > 0
    assert turn.state == "failed"


async def test_a_refused_training_key_is_named(tmp_path: Path) -> None:
    async with fake_llm(api_key="another") as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        with pytest.raises(openai.InternalServerError, match=r"rl\.remote_api_key") as caught:
            await ask(gateway)
    assert caught.value.status_code == 503
    assert KEY not in caught.value.message


async def test_a_request_that_the_policy_refuses_is_not_sent_elsewhere(tmp_path: Path) -> None:
    refusal = Answer(status=400, body=b'{"error": {"message": "prompt too long", "code": "context_length_exceeded"}}')
    async with (
        fake_llm(lambda _: refusal, api_key=KEY) as policy,
        fake_llm() as llm,
        running_gateway(rl_settings(tmp_path, policy, llm={"api_base": llm.url})) as gateway,
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            await ask(gateway)
    assert caught.value.code == "context_length_exceeded"
    assert llm.requests == []


def _break_serving(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE serving RENAME COLUMN version TO lost")
    db.close()


async def test_a_learning_journal_that_breaks_meanwhile_leaves_the_turn_to_the_other_model(tmp_path: Path) -> None:
    """The version is looked up a second time when the training server does not have the first one."""

    def break_journal(_: dict[str, Any]) -> Answer:
        _break_serving(tmp_path / "learning.db")
        return Answer(status=404, body=b'{"error": {"message": "no such model"}}')

    await serve_version(tmp_path, "main", 1, V1)
    async with (
        fake_llm(break_journal, api_key=KEY) as policy,
        fake_llm() as llm,
        running_gateway(rl_settings(tmp_path, policy, llm={"api_base": llm.url})) as gateway,
    ):
        await ask(gateway)
        [turn] = await gateway.turns()
    assert (turn.state, turn.upstream) == ("done", "fake")
