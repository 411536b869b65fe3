"""The ten things that decide whether a Tinker server works, one test each."""

from __future__ import annotations

import time

import httpx2
import pytest
import tinker
from fastapi import Depends, FastAPI
from starlette.requests import Request
from tinker import types
from tinker.proto.response_conv import deserialize_forward_backward_output, deserialize_sample_response

from metaclaw.training.api.future_routes import POLL_S, FutureRoutes
from metaclaw.training.api.futures import Futures
from metaclaw.training.api.tenants import ADMIN
from tests.fakes.training_server import API_KEY
from tests.training.api.test_tinker_training import datum
from tests.training.api.test_tinker_wire import forward_backward, make_model, post_fb, retrieve, step

PROMPT = {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]}


@pytest.fixture
def session_id(http):
    return http.post("/api/v1/create_session", json={}).json()["session_id"]


@pytest.fixture
def model_id(http, session_id):
    return make_model(http, session_id)


def sampling_session(http, session_id):
    body = {"session_id": session_id, "sampling_session_seq_id": 0, "base_model": "tiny-qwen3"}
    return http.post("/api/v1/create_sampling_session", json=body).json()["sampling_session_id"]


def asample(http, sampling_id, seq_id, **more):
    body = {
        "sampling_session_id": sampling_id,
        "seq_id": seq_id,
        "prompt": PROMPT,
        "sampling_params": {"max_tokens": 2},
    }
    return http.post("/api/v1/asample", json={**body, **more})


def test_point_1_training_requests_are_protobuf_and_forward_is_a_flag_in_them(http, model_id):
    losses = []
    for seq_id, forward_only in ((1, True), (2, False)):
        message = forward_backward(model_id, seq_id) + (b"\x30\x01" if forward_only else b"")  # field 6: true
        headers = {"Content-Type": "application/x-protobuf"}
        answer = http.post("/api/v1/forward_backward", content=message, headers=headers)
        losses.append(deserialize_forward_backward_output(retrieve(http, answer).content).metrics["loss:sum"])
    assert losses[0] == losses[1]
    gradient_of_one = retrieve(http, step(http, model_id, 3)).json()["metrics"]["grad_norm"]
    retrieve(http, post_fb(http, model_id, 4))
    assert retrieve(http, step(http, model_id, 5)).json()["metrics"]["grad_norm"] == pytest.approx(gradient_of_one)


def test_point_1_a_compressed_body_is_the_same_request(service, server, http):
    """The flag proto_compress_fwdbwd is on, so the SDK sends zstd."""
    config = http.post("/api/v1/client/config", json={"sdk_version": tinker.__version__}).json()
    assert config["proto_compress_fwdbwd"] is True
    trainer = service.create_lora_training_client(str(server.model), rank=2).result()
    assert len(trainer.forward([datum([1] * 1000)] * 20, "cross_entropy").result().loss_fn_outputs) == 20


def test_point_2_results_of_passes_and_samples_are_protobuf_and_all_others_json(http, session_id, model_id):
    protobuf = {"Accept": "application/x-protobuf"}
    fetched = {
        "forward_backward": post_fb(http, model_id, 1),
        "asample": asample(http, sampling_session(http, session_id), 0),
        "optim_step": step(http, model_id, 2),
    }
    kinds = {
        name: http.post(
            "/api/v1/retrieve_future", json={"request_id": each.json()["request_id"]}, headers=protobuf
        ).headers["content-type"]
        for name, each in fetched.items()
    }
    assert kinds == {
        "forward_backward": "application/x-protobuf",
        "asample": "application/x-protobuf",
        "optim_step": "application/json",
    }


@pytest.mark.parametrize("num_samples", [1, 3])
def test_point_3_a_submitted_sample_names_its_sequences(http, session_id, num_samples):
    submitted = asample(http, sampling_session(http, session_id), 0, num_samples=num_samples)
    ids = submitted.json()["sample_sequence_ids"]
    assert len(set(ids)) == num_samples
    assert len(deserialize_sample_response(retrieve(http, submitted).content).sequences) == num_samples


def test_point_4_the_configuration_is_there_before_anything_else(http):
    config = http.post("/api/v1/client/config", json={"sdk_version": "0.38.0"})
    assert config.status_code == 200
    assert config.json()["pjwt_auth_enabled"] is False
    assert http.post("/api/v1/client/config").status_code == 200  # a body is not insisted on
    assert http.post("/api/v1/client/dynamic_config", json={"sdk_version": "0.38.0"}).status_code == 200


@pytest.mark.parametrize("sent", [API_KEY, f"tml-{API_KEY}", f"sk-{API_KEY}", f"tml-sk-{API_KEY}"])
@pytest.mark.parametrize("header", ["X-API-Key", "Authorization"])
def test_point_5_a_key_is_the_same_key_with_what_an_sdk_puts_before_it(server, sent, header):
    value = f"Bearer {sent}" if header == "Authorization" else sent
    answer = httpx2.get(f"{server.url}/api/v1/get_server_capabilities", headers={header: value})
    assert answer.status_code == 200


def test_point_6_a_request_whose_predecessor_has_not_come_is_answered_at_once(http, model_id):
    waiting = [post_fb(http, model_id, seq_id) for seq_id in (2, 3)] + [step(http, model_id, 4)]
    assert all("request_id" in each.json() for each in waiting)
    post_fb(http, model_id, 1)
    assert retrieve(http, waiting[-1]).json()["metrics"]["step"] == 1


def test_point_7_order_is_by_number_and_the_same_number_is_the_same_request(http, model_id):
    weights = {1: 1.0, 2: 2.0, 3: 4.0}
    sent = {seq_id: post_fb(http, model_id, seq_id, weights[seq_id]) for seq_id in (2, 3, 1)}
    again = {seq_id: post_fb(http, model_id, seq_id, weights[seq_id]) for seq_id in (3, 1)}
    assert all(again[seq_id].json() == sent[seq_id].json() for seq_id in again)
    norm = retrieve(http, step(http, model_id, 4)).json()["metrics"]["grad_norm"]
    retrieve(http, post_fb(http, model_id, 5, 1.0))
    one = retrieve(http, step(http, model_id, 6)).json()["metrics"]["grad_norm"]
    assert norm == pytest.approx(7 * one, rel=1e-4)  # each once: 1 + 2 + 4


@pytest.mark.anyio
async def test_point_8_a_poll_without_a_result_is_held_and_then_says_try_again():
    """Without a pause of its own the SDK would ask a hundred times a second, and it gives up on one after 45 s."""
    assert 15 < POLL_S < 45
    futures, app = Futures(time.monotonic), FastAPI()
    request_id = futures.open(ADMIN.key_id, "a request", b"")

    async def is_admin(request: Request) -> None:
        request.state.tenant = ADMIN

    app.include_router(FutureRoutes(futures=futures, poll_s=0.5).router(), dependencies=[Depends(is_admin)])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://server") as client:
        started = time.monotonic()
        answer = await client.post("/retrieve_future", json={"request_id": request_id, "allow_metadata_only": True})
        assert time.monotonic() - started > 0.4
        assert answer.json() == {"type": "try_again", "request_id": request_id, "queue_state": "active"}


@pytest.mark.parametrize("loss", ["cross_entropy", "importance_sampling", "ppo", "cispo"])
def test_point_9_every_metric_has_one_colon_and_the_sum_is_among_them(service, server, loss):
    trainer = service.create_lora_training_client(str(server.model), rank=2).result()
    inputs = {"target_tokens": [2, 3], "weights": [1.0, 1.0]}
    if loss != "cross_entropy":
        inputs = {"target_tokens": [2, 3], "logprobs": [-1.0, -1.0], "advantages": [1.0, -1.0]}
    data = [types.Datum(model_input=types.ModelInput.from_ints([1, 2]), loss_fn_inputs=inputs)]
    metrics = trainer.forward_backward(data, loss).result().metrics
    assert "loss:sum" in metrics
    assert all(name.count(":") == 1 for name in metrics)
    assert {name.split(":")[1] for name in metrics} <= {"sum", "mean", "min", "max", "slack", "hash2", "unique"}


def test_point_10_a_model_made_by_loading_has_the_id_that_the_sdk_computes(http, session_id, model_id):
    assert model_id == f"{session_id}:train:0"
    saved = http.post("/api/v1/save_weights", json={"model_id": model_id, "seq_id": 1, "path": "s1"})
    path = retrieve(http, saved).json()["path"]
    assert path == f"tinker://{model_id}/weights/s1"
    body = {"session_id": session_id, "model_seq_id": 1, "path": path, "optimizer": True}
    loaded = retrieve(http, http.post("/api/v1/load_weights", json=body)).json()
    assert loaded == {"model_id": f"{session_id}:train:1", "path": path}
    info = http.post("/api/v1/get_info", json={"model_id": f"{session_id}:train:1"}).json()
    assert (info["model_id"], info["lora_rank"]) == (f"{session_id}:train:1", 2)
    retrieve(http, post_fb(http, f"{session_id}:train:1", 1))
    assert retrieve(http, step(http, f"{session_id}:train:1", 2)).json()["metrics"]["step"] == 1
