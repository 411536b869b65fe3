"""A full session with the real program, and a search of its log for everything that was said in it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
import tinker

from tests.fakes.tiny_model import make_tiny_model
from tests.fakes.training_server import free_port

KEY, WRONG_KEY = "canary-key-5d1f", "canary-wrong-key-77aa"
PROMPT, NAME, TYPO = "canary in a prompt", "canary-name", "canary-typo"
CANARIES = (KEY, WRONG_KEY, PROMPT, NAME, TYPO, "canary")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


@pytest.fixture
def url(tmp_path: Path, log: Path) -> Iterator[str]:
    model, port = make_tiny_model(tmp_path / "tiny"), free_port()
    flags = ["--base-model", str(model), "--port", str(port)]
    command = [sys.executable, "-m", "metaclaw.cli.main", "train-server", *flags]
    environment = {**os.environ, "METACLAW_TRAIN_API_KEY": KEY, "METACLAW_LOG": "json", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def test_the_log_of_a_session_holds_nothing_of_what_was_said(url: str, log: Path):
    """PITFALLS S7: prompts, answers and parts of keys were logged."""
    _wait(url)
    with httpx2.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=60) as http:
        _talk(http)
        _mistakes(http)
        _train(url)
        _wait(url)
        assert http.get("/metrics").status_code == 200
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["process"] for line in lines} >= {"api"}
    assert any("the engine is down" in line["message"] for line in lines), "nothing went wrong: nothing was tested"
    assert [canary for canary in CANARIES if canary in text] == []


def _talk(http: httpx2.Client) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4}
    assert http.post("/v1/chat/completions", json=body).status_code == 200
    assert PROMPT not in http.post("/v1/chat/completions", json=body | {"stream": True}).text


def _mistakes(http: httpx2.Client) -> None:
    chat, ask = "/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}]}
    answers = [
        http.post(chat, json=ask | {"model": NAME}),
        http.post(chat, content=f'{{"messages": "{PROMPT}'.encode()),
        http.post(chat, json={"model": "tiny", "messages": PROMPT}),
        http.post(chat, json=ask | {"model": "tiny", "max_tokens": TYPO}),
        http.post(chat, json=ask | {"model": f"tinker://{NAME}/sampler_weights/{NAME}"}),
        http.get(f"/v1/{TYPO}/{TYPO}"),
        http.post("/api/v1/asample", json={"base_model": NAME, "prompt": PROMPT}),
        http.post("/api/v1/retrieve_future", json={"request_id": TYPO}),
        http.post("/api/v1/forward_backward", content=f"{PROMPT}".encode()),
        http.get("/v1/models", headers={"X-API-Key": WRONG_KEY}),
    ]
    assert {answer.status_code // 100 for answer in answers} == {4}


def _train(url: str) -> None:
    service = tinker.ServiceClient(base_url=url, api_key=f"tml-{KEY}", user_metadata={"who": PROMPT})
    client = service.create_lora_training_client("tiny", rank=4, user_metadata={"what": PROMPT}).result()
    client.save_weights_for_sampler(NAME).result()
    with pytest.raises(tinker.TinkerError):
        client.save_weights_for_sampler(NAME).result()
    with pytest.raises(tinker.TinkerError):
        service.create_training_client_from_state(f"tinker://{NAME}/weights/{NAME}").result()
    datum = tinker.Datum(
        model_input=tinker.ModelInput.from_ints([1, 2, 3]),
        loss_fn_inputs={"target_tokens": [1, 2, 3], "weights": [1.0, 1.0, 1.0]},  # pyright: ignore
    )
    with pytest.raises(tinker.TinkerError):
        client.forward_backward([datum], TYPO).result()  # pyright: ignore
    _kill_the_engine(url)
    with pytest.raises(tinker.TinkerError):
        client.forward_backward([datum], "cross_entropy").result()
    service.close("success").result()


def _kill_the_engine(url: str) -> None:
    port = url.rpartition(":")[2]
    (api,) = [child for child in psutil.Process().children() if port in child.cmdline()]
    (engine,) = [child for child in api.children() if child.cmdline()[-1:] == ["engine"]]
    engine.kill()


def _wait(url: str) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/readyz").status_code == 200:
                return
        time.sleep(0.1)
    raise TimeoutError("the server did not become ready")
