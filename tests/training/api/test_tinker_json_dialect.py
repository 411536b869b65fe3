"""Requests and results as SDKs before 0.25 know them: JSON, on routes of their own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.errors import InvalidRequestError
from metaclaw.training.api.codec import decode_forward_backward, encode_forward_backward
from metaclaw.training.api.json_dialect import forward_backward_json, json_message, read_pass, sample_json
from tests.training.api.test_tinker_wire import make_model, post_fb, retrieve, step

JSON = {"Accept": "application/json"}
TOKENS = {"chunks": [{"type": "encoded_text", "tokens": [1, 1]}]}


def tensor(data, dtype="float32", **more):
    return {"data": data, "dtype": dtype, "shape": [len(data)], **more}


def body(model_id, seq_id, key="forward_backward_input", **inputs):
    own = {"target_tokens": tensor([2, 2], "int64"), "weights": tensor([1.0, 1.0]), **inputs}
    data = [{"model_input": TOKENS, "loss_fn_inputs": own}]
    return {"model_id": model_id, "seq_id": seq_id, key: {"data": data, "loss_fn": "cross_entropy"}}


def post(http, path, content):
    return http.post(f"/api/v1/{path}", json=content)


def retrieve_json(http, submitted):
    request = {"request_id": submitted.json()["request_id"]}
    return http.post("/api/v1/retrieve_future", json=request, headers=JSON).json()


@pytest.fixture
def model_id(http):
    return make_model(http, http.post("/api/v1/create_session", json={}).json()["session_id"])


def test_a_json_pass_has_the_gradient_of_the_same_pass_in_protobuf(http, model_id):
    first = retrieve_json(http, post(http, "forward_backward", body(model_id, 1)))
    norm = retrieve(http, step(http, model_id, 2)).json()["metrics"]["grad_norm"]
    post_fb(http, model_id, 3)  # the same datum
    assert retrieve(http, step(http, model_id, 4)).json()["metrics"]["grad_norm"] == pytest.approx(norm, rel=1e-6)
    (output,) = first["loss_fn_outputs"]
    assert (output["logprobs"]["shape"], output["logprobs"]["dtype"]) == ([2], "float32")
    assert -sum(output["logprobs"]["data"]) == pytest.approx(first["metrics"]["loss:sum"], rel=1e-5)


def test_forward_is_a_route_and_leaves_no_gradient(http, model_id):
    result = retrieve_json(http, post(http, "forward", body(model_id, 1, key="forward_input")))
    assert result["metrics"]["loss:sum"] > 0
    assert retrieve(http, step(http, model_id, 2)).json()["metrics"]["grad_norm"] == 0


def test_a_result_is_what_the_client_accepts(http, model_id):
    """SDK 0.22 names both types, and is given the smaller one."""
    submitted = post(http, "forward_backward", body(model_id, 1))
    request = {"request_id": submitted.json()["request_id"]}
    for accept, kind in (
        ("application/json", "application/json"),
        ("application/x-protobuf, application/json", "application/x-protobuf"),
        ("application/x-protobuf", "application/x-protobuf"),
        ("*/*", "application/x-protobuf"),
    ):
        answer = http.post("/api/v1/retrieve_future", json=request, headers={"Accept": accept})
        assert answer.headers["content-type"] == kind


def test_a_sample_reads_as_json(http):
    asked = {
        "base_model": "tiny-qwen3", "prompt": TOKENS, "prompt_logprobs": True, "topk_prompt_logprobs": 2,
        "sampling_params": {"max_tokens": 3, "stop": []}, "num_samples": 2,
    }  # fmt: skip
    result = retrieve_json(http, post(http, "asample", asked))
    assert [len(each["tokens"]) for each in result["sequences"]] == [3, 3]
    assert [each["stop_reason"] for each in result["sequences"]] == ["length", "length"]
    assert result["prompt_logprobs"][0] is None
    assert (len(result["prompt_logprobs"]), len(result["topk_prompt_logprobs"][1])) == (2, 2)


def test_an_unloaded_model_is_gone_and_its_checkpoints_stay(http, model_id):
    path = retrieve(http, post(http, "save_weights", {"model_id": model_id, "seq_id": 1, "path": "kept"})).json()[
        "path"
    ]
    done = retrieve(http, post(http, "unload_model", {"model_id": model_id, "type": "unload_model"}))
    assert done.json() == {"model_id": model_id}
    assert step(http, model_id, 2).status_code == 404
    assert post(http, "weights_info", {"tinker_path": path}).json()["lora_rank"] == 2


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"weights": tensor([1.0, "x"])}, "numbers"),
        ({"weights": tensor([1.0])}, "shape"),
        ({"weights": {"data": [1.0, 1.0], "dtype": "float16"}}, "dtype"),
        ({"target_tokens": tensor([2**70, 1], "int64")}, "numbers"),
        ({"mask": tensor([1.0, 1.0])}, "mask"),
    ],
)
def test_a_datum_that_cannot_be_read_fails_its_job_and_not_the_order(http, model_id, inputs, reason):
    failed = retrieve_json(http, post(http, "forward_backward", body(model_id, 1, **inputs)))
    assert failed["category"] == "user"
    assert reason in failed["error"]
    assert "loss:sum" in retrieve_json(http, post(http, "forward_backward", body(model_id, 2)))["metrics"]


def test_a_sparse_tensor_in_json_is_the_matrix_that_it_stands_for():
    sparse = {
        "data": [1.5, 2.5], "dtype": "float32", "shape": [2, 3], "sparse_crow_indices": [0, 1, 2],
        "sparse_col_indices": [2, 0],
    }  # fmt: skip
    content = json.dumps(body("m", 1, weights=sparse)).encode()
    command = decode_forward_backward(json_message(content, forward_only=False))
    assert command.data[0].inputs["weights"].tolist() == [[0, 0, 1.5], [2.5, 0, 0]]


@settings(deadline=None)
@given(st.recursive(st.none() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
def test_no_json_makes_the_reader_fail_otherwise_than_by_refusing(value):
    content = body("m", 1)
    content["forward_backward_input"]["data"][0]["loss_fn_inputs"]["weights"]["data"] = value
    try:
        read_pass(json.dumps(content).encode(), "application/json", forward_only=False).command()
    except InvalidRequestError:
        return


def test_numbers_that_json_does_not_know_become_null():
    from_nan = forward_backward_json(_output([float("nan"), -1.0]))
    assert from_nan["loss_fn_outputs"][0]["logprobs"]["data"] == [None, -1.0]
    assert sample_json(b"") == {"type": "sample", "sequences": []}


def _output(values):
    return encode_forward_backward([np.array(values, np.float32)], {"loss:sum": float("inf")})
