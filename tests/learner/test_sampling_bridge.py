"""The sampling bridge as a process, with Tinker's SDK, and our own training server in the cloud's place."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from metaclaw.bridge.model import load_model
from metaclaw.config import RlSettings, Settings, bridge_key
from metaclaw.config_file import dump_settings
from metaclaw.errors import BackendError, ModelSourceError
from metaclaw.learner.extras import load_backend
from metaclaw.learner.gate.answers import EndpointDrawer
from metaclaw.upstreams.configured import training_server
from metaclaw.upstreams.http_model import HttpModel
from tests.cli.programs import until
from tests.fakes.training_server import API_KEY, TrainingServer, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def settings_for(home: Path, trainer: TrainingServer, **rl: Any) -> Settings:
    own = {
        "backend": "tinker", "model": str(trainer.model), "base_url": trainer.url, "api_key": f"tml-{API_KEY}",
        "bridge_port": free_port(),
    }  # fmt: skip
    return Settings(home=home, mode="rl", proxy={"api_key": "of-the-gateway"}, rl=RlSettings(**own | rl))


@contextmanager
def running(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "metaclaw.bridge"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdin is not None
        process.stdin.write(dump_settings(settings).encode() + b"\n")
        process.stdin.flush()
        yield process
    finally:
        process.communicate(timeout=30)  # the end of its input is its end


@pytest.fixture(scope="module")
def settings(trainer: TrainingServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    made = settings_for(tmp_path_factory.mktemp("home"), trainer)
    with running(made) as process:
        until(lambda: process.poll() is not None or is_listening(made.rl.bridge_port))
        assert process.poll() is None, process.communicate()[1].decode()
        yield made


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def chat(http: aiohttp.ClientSession, url: str, key: str, **body: Any) -> tuple[int, dict[str, Any]]:
    asked = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 12, "seed": 7, **body}
    async with http.post(f"{url}/v1/chat/completions", json=asked, headers={"X-API-Key": key}) as answer:
        return answer.status, await answer.json()


async def test_a_turn_is_answered_and_recorded_as_our_own_server_does(http, settings, trainer):
    bridge, key = training_server(settings), bridge_key(settings).get_secret_value()
    assert bridge.base_url == f"http://127.0.0.1:{settings.rl.bridge_port}/v1"
    asked = {"model": str(trainer.model), "return_policy_record": True, "logprobs": True, "tools": [TOOL]}
    _, ours = await chat(http, trainer.url, API_KEY, **asked)
    status, theirs = await chat(http, bridge.base_url.removesuffix("/v1"), key, **asked)
    assert status == 200
    for name in ("message", "finish_reason"):
        assert theirs["choices"][0][name] == ours["choices"][0][name]
    mine, other = ours["policy_record"], theirs["policy_record"]
    for name in (
        "prompt_tokens",
        "tokens",
        "renderer",
        "stop_reason",
        "spans",
        "temperature",
        "top_p",
        "top_k",
        "seed",
    ):
        assert other[name] == mine[name], name
    for name in ("logprobs", "logprobs_full"):
        np.testing.assert_allclose(floats(other[name]), floats(mine[name]), atol=1e-4)
    assert theirs["usage"]["completion_tokens"] == ours["usage"]["completion_tokens"]


async def test_what_differs_from_temperature_1_is_scored_where_it_is_shown_and_said_to_be_unknown_elsewhere(
    http, settings, trainer
):
    url, key = f"http://127.0.0.1:{settings.rl.bridge_port}", bridge_key(settings).get_secret_value()
    asked = {"model": str(trainer.model), "return_policy_record": True, "temperature": 0.5}
    _, ours = await chat(http, trainer.url, API_KEY, **asked, logprobs=True)
    _, shown = await chat(http, url, key, **asked, logprobs=True)
    _, hidden = await chat(http, url, key, **asked)
    full = floats(ours["policy_record"]["logprobs_full"])
    np.testing.assert_allclose(floats(shown["policy_record"]["logprobs_full"]), full, atol=1e-4)
    assert np.isnan(floats(hidden["policy_record"]["logprobs_full"])).all()
    assert hidden["policy_record"]["tokens"] == ours["policy_record"]["tokens"]


async def test_a_stop_string_ends_an_answer_with_the_token_that_completes_it(http, settings, trainer):
    url, key = f"http://127.0.0.1:{settings.rl.bridge_port}", bridge_key(settings).get_secret_value()
    asked = {"model": str(trainer.model), "return_token_ids": True}
    _, whole = await chat(http, trainer.url, API_KEY, **asked)
    text = whole["choices"][0]["message"]["content"]
    _, ours = await chat(http, trainer.url, API_KEY, **asked, stop=[text[3:5]])
    _, theirs = await chat(http, url, key, **asked, stop=[text[3:5]])
    assert theirs["choices"] == ours["choices"]
    assert len(theirs["choices"][0]["token_ids"]) < len(whole["choices"][0]["token_ids"])


async def test_a_stream_says_the_same_and_ends_as_streams_do(http, settings, trainer):
    url, key = f"http://127.0.0.1:{settings.rl.bridge_port}", bridge_key(settings).get_secret_value()
    _, whole = await chat(http, url, key, model=str(trainer.model))
    body = {"model": str(trainer.model), "messages": [{"role": "user", "content": "hello"}], "max_tokens": 12}
    headers = {"Authorization": f"Bearer {key}"}
    async with http.post(
        f"{url}/v1/chat/completions", json={**body, "seed": 7, "stream": True}, headers=headers
    ) as answer:
        events = (await answer.text()).strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert said == whole["choices"][0]["message"]["content"]


async def test_a_trained_version_is_drawn_and_scored_as_the_gate_needs_it_and_one_that_is_gone_is_404(
    http, settings, trainer
):
    backend = load_backend(settings.rl)
    run = await backend.open(None)
    saved = await run.save(f"bridge-{uuid.uuid4().hex}")
    await run.close()
    own = RlSettings(remote_url=trainer.url, remote_api_key=API_KEY)
    ours = settings.model_copy(update={"rl": own})
    drawers = [EndpointDrawer(HttpModel(http, training_server(each))) for each in (settings, ours)]
    drawn = [await each.draw(saved.sampler_path, [5, 6, 7], temperature=1.0, max_tokens=8, seed=3) for each in drawers]
    assert drawn[0] == drawn[1]
    scores = [await each.score(saved.sampler_path, [5, 6, 7], drawn[0].tokens) for each in drawers]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    await backend.delete([saved.sampler_path])
    await backend.close()
    key = bridge_key(settings).get_secret_value()
    url = f"http://127.0.0.1:{settings.rl.bridge_port}"
    gone = "tinker://nobody/sampler_weights/x"
    assert (await chat(http, url, key, model=gone))[0] == 404
    assert (await chat(http, url, key, model="another"))[0] == 404
    assert (await chat(http, url, "another key", model=str(trainer.model)))[0] == 401
    with pytest.raises(BackendError):
        await drawers[0].score(gone, [1], (1,))


def test_settings_that_cannot_work_end_it_at_once_with_one_sentence(trainer, tmp_path):
    with pytest.raises(ModelSourceError, match=r"there is no tokenizer in .*rl\.tokenizer"):
        load_model(settings_for(tmp_path, trainer, tokenizer=str(tmp_path)).rl)
    with running(settings_for(tmp_path, trainer, api_key="")) as process:
        assert process.wait(60) == 2
        assert process.stderr is not None
        assert "rl.api_key is empty" in process.stderr.read().decode()


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")
