"""Workers and servers killed with SIGKILL, and what is left when they come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time

import httpx2
import psutil
import pytest
import tinker
from tinker import types
from tinker.proto.response_conv import deserialize_sample_response

from metaclaw.errors import UpstreamError
from metaclaw.training.api.workers import Worker, WorkerSpec
from tests.fakes.training_server import API_KEY, training_server
from tests.training.api.conftest import MAX_OPEN
from tests.training.api.test_tinker_training import datum

HEADERS = {"X-API-Key": API_KEY}
PROMPT = types.ModelInput.from_ints([1, 2, 3])


@contextlib.contextmanager
def connected(server):
    service = tinker.ServiceClient(base_url=server.url, api_key=f"tml-{API_KEY}")
    yield service
    service.close("success").result()


def wait_until_the_engine_has_tokens(server, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    with httpx2.Client(base_url=server.url, headers=HEADERS) as http:
        while not re.search(r"^metaclaw_training_waiting_tokens [1-9]", http.get("/metrics").text, re.MULTILINE):
            assert time.monotonic() < deadline, "no pass was sent to the engine"
            time.sleep(0.01)


def test_an_engine_killed_in_the_middle_fails_its_job_clearly_and_work_goes_on_from_the_saved_state(server):
    with connected(server) as service:
        client = service.create_lora_training_client("tiny-qwen3", rank=4).result()
        path = client.save_state("before").result().path
        data = [
            datum([n, *list(range(200)) * 5]) for n in range(250)
        ]  # no two begin alike: nothing is run once for all
        running = client.forward_backward(data, "cross_entropy")
        waiting = client.optim_step(types.AdamParams(learning_rate=1e-3))
        wait_until_the_engine_has_tokens(server)
        server.kill_worker("engine")
        for job in (running, waiting):
            with pytest.raises(tinker.RequestFailedError, match="Resume from its last saved state") as failed:
                job.result()
            assert path in str(failed.value)
            assert failed.value.category == types.RequestErrorCategory.Server
        server.wait_until_ready()
        resumed = service.create_training_client_from_state_with_optimizer(path).result()
        assert "loss:sum" in resumed.forward_backward([datum([1, 2, 3])], "cross_entropy").result().metrics


def test_a_sampler_killed_in_the_middle_of_a_stream_ends_it_with_an_error_and_comes_back(server):
    with connected(server) as service:
        client = service.create_lora_training_client("tiny-qwen3", rank=4).result()
        path = client.save_weights_for_sampler("v1").result().path
        body = {"model": path, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2000, "stream": True}
        url = f"{server.url}/v1/chat/completions"
        for _ in range(4):  # all twelve answers may have ended before it is killed; it is given up after five deaths
            with httpx2.stream("POST", url, json={**body, "n": 12}, headers=HEADERS, timeout=60) as answer:
                lines = answer.iter_lines()
                next(lines)
                server.kill_worker("sampler")
                ended = [line for line in lines if line][-1]
            if "error" in ended:
                break
        assert "sampler" in json.loads(ended.removeprefix("data: "))["error"]["message"]
        again = httpx2.post(url, json={**body, "stream": False, "max_tokens": 4}, headers=HEADERS, timeout=60)
        assert again.status_code == 200  # it waited for the new process, which was told of the adapter again


def test_more_samples_than_are_borne_get_429(server):
    """Protocol section 5: back-pressure is a 429 on the submission."""
    server.wait_until_ready()
    body = {
        "base_model": "tiny-qwen3", "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1]}]},
        "sampling_params": {"max_tokens": 2000, "stop": []},
    }  # fmt: skip
    with httpx2.Client(base_url=server.url, headers=HEADERS) as http:
        with server.suspended("sampler"):
            answers = [http.post("/api/v1/asample", json=body) for _ in range(MAX_OPEN + 1)]
        for answer in answers[:MAX_OPEN]:
            http.post("/api/v1/cancel_future", json={"request_id": answer.json()["request_id"]})
    assert [answer.status_code for answer in answers] == [200] * MAX_OPEN + [429]
    assert "Retry-After" in answers[-1].headers


def prompt_logprobs(server, sampling_session_id, seq_id):
    body = {
        "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]}, "sampling_params": {"max_tokens": 1},
        "sampling_session_id": sampling_session_id, "seq_id": seq_id, "prompt_logprobs": True,
    }  # fmt: skip
    with httpx2.Client(base_url=server.url, headers=HEADERS, timeout=60) as http:
        submitted = http.post("/api/v1/asample", json=body).json()
        result = http.post("/api/v1/retrieve_future", json={"request_id": submitted["request_id"]})
    return deserialize_sample_response(result.content).prompt_logprobs


def test_a_killed_server_leaves_no_child_and_its_successor_has_all_checkpoints_and_sampling_sessions(server, tmp_path):
    with training_server(server.model, tmp_path) as first:
        with connected(first) as service:
            client = service.create_lora_training_client("tiny-qwen3", rank=4).result()
            client.forward_backward([datum([1, 2, 3])], "cross_entropy")
            client.optim_step(types.AdamParams(learning_rate=1e-2))
            state = client.save_state("s").result().path
            sampler = client.save_weights_for_sampler("v").result().path
            client.save_weights_and_get_sampling_client().result()
            session_id = client.get_info().model_id.split(":")[0]
            session = httpx2.get(f"{first.url}/api/v1/sessions/{session_id}", headers=HEADERS).json()
            (unnamed,) = session["sampler_ids"]
            expected = prompt_logprobs(first, unnamed, 0)
        children = psutil.Process(first.process.pid).children()
        first.process.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []
    (parent,) = tmp_path.glob("checkpoints/*/weights")
    half_written = parent / ".unfinished-next"
    half_written.mkdir()
    with training_server(server.model, tmp_path) as second, connected(second) as service:
        assert not half_written.exists()
        assert prompt_logprobs(second, unnamed, 1) == pytest.approx(expected)
        named = service.create_sampling_client(model_path=sampler).result()
        assert named.compute_logprobs(PROMPT).result() == pytest.approx(expected)
        assert service.create_training_client_from_state(state).result().get_info().lora_rank == 4


@pytest.mark.anyio
async def test_a_worker_that_cannot_load_its_model_gives_up_at_once_and_says_why(server, tmp_path):
    (tmp_path / "config.json").write_bytes((server.model / "config.json").read_bytes())
    worker = Worker(WorkerSpec(name="engine", start={"base_model": str(tmp_path)}, environment={}))
    running = asyncio.ensure_future(worker.run())
    with pytest.raises(UpstreamError, match="safetensors"):
        await worker.ready(60)
    await running
    assert (worker.state, worker.generation) == ("failed", 1)
