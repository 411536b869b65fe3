"""What the SDK cannot be made to send: order of arrival, retries, lost results, bad bodies, wrong tokens."""

from __future__ import annotations

import contextlib
import json
import uuid
from http.client import HTTPConnection

import httpx2
import numpy as np
import pytest
import zstandard

from metaclaw.training.api.proto import tinker_pb2 as pb
from tests.fakes.training_server import API_KEY


@pytest.fixture
def model_id(http):
    session_id = http.post("/api/v1/create_session", json={}).json()["session_id"]
    return make_model(http, session_id)


def make_model(http, session_id, seq=0, rank=2):
    body = {"session_id": session_id, "model_seq_id": seq, "base_model": "tiny-qwen3", "lora_config": {"rank": rank}}
    return retrieve(http, http.post("/api/v1/create_model", json=body)).json()["model_id"]


def retrieve(http, submitted):
    assert submitted.status_code == 200, submitted.text
    return http.post("/api/v1/retrieve_future", json={"request_id": submitted.json()["request_id"]})


def step(http, model_id, seq_id, rate=0.0):
    body = {"model_id": model_id, "seq_id": seq_id, "adam_params": {"learning_rate": rate}}
    return http.post("/api/v1/optim_step", json=body)


def forward_backward(model_id, seq_id, weight=1.0):
    message = pb.ForwardBackwardRequest(model_id=model_id, seq_id=seq_id, loss_fn="cross_entropy")
    datum = message.data.add()
    datum.model_input.add().encoded_text.tokens = (1).to_bytes(4, "little") * 2
    targets, weights = datum.loss_fn_inputs["target_tokens"], datum.loss_fn_inputs["weights"]
    targets.dtype, targets.dense = pb.DTYPE_INT64, (2).to_bytes(8, "little") * 2
    targets.shape.append(2)
    weights.dtype, weights.dense = pb.DTYPE_FLOAT32, np.full(2, weight, "<f4").tobytes()
    weights.shape.append(2)
    return message.SerializeToString()


def post_fb(http, model_id, seq_id, weight=1.0):
    headers = {"Content-Type": "application/x-protobuf"}
    return http.post("/api/v1/forward_backward", content=forward_backward(model_id, seq_id, weight), headers=headers)


def test_numbers_that_arrive_as_2_3_1_are_answered_at_once_and_run_as_1_2_3(http, model_id):
    """Protocol points 6 and 7. Run by arrival, the first step would find no gradient and not count."""
    first_step, second_gradient = step(http, model_id, 2), post_fb(http, model_id, 3)
    post_fb(http, model_id, 1)
    second_step = step(http, model_id, 4)
    assert retrieve(http, second_gradient).headers["content-type"] == "application/x-protobuf"
    assert [retrieve(http, each).json()["metrics"]["step"] for each in (first_step, second_step)] == [1, 2]


def test_a_retry_gets_the_same_id_and_is_run_once(http, model_id):
    """KNOWLEDGE 6: a retried step applied twice (SkyRL #2035)."""
    post_fb(http, model_id, 1)
    first, again = step(http, model_id, 2), step(http, model_id, 2)
    assert first.json() == again.json()
    assert retrieve(http, first).json() == retrieve(http, again).json()
    post_fb(http, model_id, 3)
    assert retrieve(http, step(http, model_id, 4)).json()["metrics"]["step"] == 2


def test_the_same_number_with_another_body_is_a_conflict(http, model_id):
    retrieve(http, post_fb(http, model_id, 1))
    answer = post_fb(http, model_id, 1, weight=2.0)
    assert answer.status_code == 409
    assert "another body" in answer.json()["detail"]


def test_creating_a_model_again_under_its_number_is_a_retry_or_a_conflict(http):
    """PITFALLS B8: the session was ignored, and making a model again leaked the memory of the first."""
    session_id = http.post("/api/v1/create_session", json={}).json()["session_id"]
    assert make_model(http, session_id) == make_model(http, session_id)
    body = {"session_id": session_id, "model_seq_id": 0, "base_model": "tiny-qwen3", "lora_config": {"rank": 4}}
    assert http.post("/api/v1/create_model", json=body).status_code == 409


def test_a_poll_is_held_until_the_result_is_there(server, http, model_id):
    """Protocol point 8."""
    waiting = step(http, model_id, 2).json()["request_id"]
    poll = HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"X-API-Key": API_KEY, "Content-Type": "application/json"}
    poll.request("POST", "/api/v1/retrieve_future", json.dumps({"request_id": waiting}), headers)
    post_fb(http, model_id, 1)  # without which there is nothing to answer
    with contextlib.closing(poll):
        assert json.load(poll.getresponse())["metrics"]["step"] == 1


def test_a_request_id_that_is_not_known_is_gone_with_a_reason(http):
    answer = http.post("/api/v1/retrieve_future", json={"request_id": "nobody"})
    assert answer.status_code == 410
    assert "never issued" in answer.json()["detail"]


def test_a_heart_that_beats_for_a_session_that_is_not_known_is_told_to_stop(http):
    assert http.post("/api/v1/session_heartbeat", json={"session_id": str(uuid.uuid4())}).status_code == 410


@pytest.mark.parametrize(
    "headers", [{"X-API-Key": API_KEY}, {"X-API-Key": f"tml-{API_KEY}"}, {"Authorization": f"Bearer {API_KEY}"}]
)
def test_every_way_to_present_the_key_is_accepted(server, headers):
    assert httpx2.post(f"{server.url}/api/v1/client/config", json={}, headers=headers).json()["parallel_fwdbwd_chunks"]


@pytest.mark.parametrize("path", ["/api/v1/client/config", "/api/v1/forward_backward", "/v1/chat/completions"])
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}])
def test_a_wrong_token_is_401_on_every_door(server, path, headers):
    """PITFALLS S1: an open port relayed whatever came. PITFALLS B8: a wrong token was answered with 500."""
    assert httpx2.post(server.url + path, json={}, headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("create_model", b"{", "body is malformed"),
        ("create_model", b"[]", "malformed"),
        ("create_model", b'{"session_id": "x"}', "model_seq_id"),
        ("optim_step", b"{", "JSON"),
        ("optim_step", b'{"model_id": "x"}', "seq_id"),
        ("forward_backward", b"\xff\xff", "ForwardBackwardRequest"),
        ("asample", b"{}", "prompt"),
        ("load_weights", b'{"path": "tinker://a/weights/b", "optimizer": true}', "session_id"),
    ],
)
def test_a_malformed_body_is_400_with_a_detail(http, path, body, words):
    """Protocol section 1: a 400 without a body is retried 16 times."""
    answer = http.post(f"/api/v1/{path}", content=body)
    assert answer.status_code == 400
    assert words in answer.json()["detail"]


def test_a_body_of_5_mb_is_read_and_one_above_the_limit_is_413(server, http):
    """PITFALLS S11: there was no limit on bodies."""
    big = http.post("/api/v1/forward_backward", content=bytes(5_000_000))
    assert (big.status_code, "ForwardBackwardRequest" in big.json()["detail"]) == (400, True)
    connection = HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("POST", "/api/v1/forward_backward")
    for name, value in (("X-API-Key", API_KEY), ("Content-Length", str(65 * 1024 * 1024))):
        connection.putheader(name, value)
    connection.endheaders()  # refused by what is announced, before anything is sent
    assert connection.getresponse().status == 413
    connection.close()
    packed = zstandard.ZstdCompressor().compress(bytes(65 * 1024 * 1024))  # a few kilobytes
    answer = http.post("/api/v1/forward_backward", content=packed, headers={"Content-Encoding": "zstd"})
    assert (answer.status_code, "decompressed" in answer.json()["detail"]) == (413, True)


def test_a_session_that_does_not_exist_has_no_models(http):
    body = {"session_id": "nobody", "model_seq_id": 0, "base_model": "tiny-qwen3", "lora_config": {"rank": 2}}
    assert http.post("/api/v1/create_model", json=body).status_code == 404


def test_another_optimiser_is_refused(http):
    session_id = http.post("/api/v1/create_session", json={}).json()["session_id"]
    body = {
        "session_id": session_id, "model_seq_id": 0, "base_model": "tiny-qwen3", "lora_config": {"rank": 2},
        "optimizer_config": {"type": "dimuon", "version": 1},
    }  # fmt: skip
    answer = http.post("/api/v1/create_model", json=body)
    assert (answer.status_code, "dimuon" in answer.json()["detail"]) == (400, True)


def test_a_kind_of_sampler_that_changes_under_its_reader_is_refused(http, model_id):
    body = {"model_id": model_id, "seq_id": 1, "sampling_session_seq_id": 0, "kind": "inflight"}
    failed = retrieve(http, http.post("/api/v1/save_weights_for_sampler", json=body)).json()
    assert failed["category"] == "user"
    assert "inflight" in failed["error"]


def test_health_needs_no_token(server):
    assert httpx2.get(f"{server.url}/healthz").json() == {"status": "ok"}
    assert httpx2.get(f"{server.url}/readyz").json() == {"status": "ready", "engine": "ready", "sampler": "ready"}


def test_telemetry_is_accepted_and_never_logged(http, capfd):
    """Protocol section 2: the SDK puts the caller's key into it."""
    http.post("/api/v1/telemetry", json={"events": [{"event_data": {"x-api-key": "tml-secret-of-a-user"}}]})
    assert "secret-of-a-user" not in "".join(capfd.readouterr())


def test_a_finished_session_makes_no_models_any_more(http):
    session_id = http.post("/api/v1/create_session", json={}).json()["session_id"]
    http.post(f"/api/v1/sessions/{session_id}/finish")
    body = {"session_id": session_id, "model_seq_id": 0, "base_model": "tiny-qwen3"}
    answer = http.post("/api/v1/create_model", json=body)
    assert answer.status_code == 400
    assert "finished" in answer.json()["detail"]
