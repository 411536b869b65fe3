"""Training through the official SDK, against a real server with real workers."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
import tinker
from tinker import types
from tinker.proto.response_conv import deserialize_sample_response

from tests.fakes.training_server import API_KEY, TrainingServer


def datum(tokens, weights=None):
    weights = [1.0] * (len(tokens) - 1) if weights is None else weights
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": tokens[1:], "weights": weights},
    )


def policy_datum(tokens, logprobs, advantages):
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": tokens[1:], "logprobs": logprobs, "advantages": advantages},
    )


@pytest.fixture
def trainer(server: TrainingServer, service: tinker.ServiceClient) -> tinker.TrainingClient:
    return service.create_lora_training_client(str(server.model), rank=4, seed=7).result()


def test_a_model_says_what_it_is(server, trainer):
    info = trainer.get_info()
    assert (info.is_lora, info.lora_rank, info.model_data.tokenizer_id) == (True, 4, str(server.model))
    assert info.model_id.endswith(tuple(f":train:{n}" for n in range(100)))


def test_training_lowers_the_loss_and_returns_log_probs_in_request_order(trainer):
    data = [datum([1, 2, 3, 4]), datum([9, 8, 7])]
    first = trainer.forward_backward(data, "cross_entropy")
    step = trainer.optim_step(types.AdamParams(learning_rate=1e-2))  # sent before the first result is fetched
    second = trainer.forward(data, "cross_entropy")
    assert [list(output["logprobs"].shape) for output in first.result().loss_fn_outputs] == [[3], [2]]
    assert step.result().metrics["grad_norm"] > 0
    assert second.result().metrics["loss:sum"] < first.result().metrics["loss:sum"]


def test_chunks_that_the_sdk_sends_as_2_3_1_add_up_to_the_gradient_of_one_call(server, service):
    """KNOWLEDGE 6: gradients lost between forward_backward calls (SkyRL #2008)."""

    def norm(copies):
        client = service.create_lora_training_client(str(server.model), rank=4, seed=7).result()
        client.forward_backward([datum([1, 2, 3, 4])] * copies, "cross_entropy")
        return client.optim_step(types.AdamParams(learning_rate=0.0)).result().metrics["grad_norm"]

    assert norm(2100) == pytest.approx(2100 * norm(1), rel=1e-3)


def test_a_loss_of_the_callers_own_works_by_signed_weights(trainer):
    def loss(_data, logprobs):
        value = -sum(each.sum() for each in logprobs)
        return value, {"mine": value.item()}

    custom = trainer.forward_backward_custom([datum([1, 2, 3, 4])], loss).result()
    plain = trainer.forward([datum([1, 2, 3, 4])], "cross_entropy").result()
    assert custom.metrics["mine"] == pytest.approx(plain.metrics["loss:sum"], rel=1e-5)


def test_state_is_saved_and_training_goes_on_from_it_as_if_nothing_had_happened(service, trainer):
    data, adam = [datum([1, 2, 3, 4])], types.AdamParams(learning_rate=1e-2)
    trainer.forward_backward(data, "cross_entropy")
    trainer.optim_step(adam)
    path = trainer.save_state("after-1").result().path
    trainer.forward_backward(data, "cross_entropy")
    trainer.optim_step(adam)
    expected = trainer.forward(data, "cross_entropy").result().metrics["loss:sum"]

    resumed = service.create_training_client_from_state_with_optimizer(path).result()
    assert resumed.get_info().lora_rank == 4
    resumed.forward_backward(data, "cross_entropy")
    resumed.optim_step(adam)
    assert resumed.forward(data, "cross_entropy").result().metrics["loss:sum"] == pytest.approx(expected, abs=1e-5)


def test_the_second_form_of_loading_fills_an_existing_model(trainer):
    data = [datum([1, 2, 3, 4])]
    path = trainer.save_state("start").result().path
    before = trainer.forward(data, "cross_entropy").result().metrics["loss:sum"]
    trainer.forward_backward(data, "cross_entropy")
    trainer.optim_step(types.AdamParams(learning_rate=1e-2)).result()
    with pytest.warns(FutureWarning, match="load_state"):
        trainer.load_state(path).result()
    assert trainer.forward(data, "cross_entropy").result().metrics["loss:sum"] == pytest.approx(before, abs=1e-6)


def test_a_name_is_never_used_twice_and_never_becomes_a_path(trainer):
    """PITFALLS S2, and KNOWLEDGE 1.1: an adapter's name used again serves old weights.

    PITFALLS B8: names and ids led out of the folder.
    """
    trainer.save_state("once").result()
    for name, reason in (("once", "never overwritten"), ("../out", "not valid"), ("a/b", "not valid")):
        with pytest.raises(tinker.RequestFailedError, match=reason):
            trainer.save_state(name).result()
    assert trainer.save_state("twice").result().path.endswith("/weights/twice")


@pytest.mark.parametrize(
    ("data", "loss", "reason"),
    [
        ([datum([1, 2, 3])], "no_such_loss", "no_such_loss"),
        ([datum([1, 2, 3], [1.0])], "cross_entropy", "shape"),
        ([datum([1, 2, 3], [1.0, float("nan")])], "cross_entropy", "finite"),
        ([datum([1, 2, 100_000])], "cross_entropy", "vocabulary"),
        ([datum([1, 2, -3])], "cross_entropy", "vocabulary"),
        ([datum(list(range(200)) * 6)], "cross_entropy", "1024"),
        ([policy_datum([1, 2, 3], [0.0, float("-inf")], [1.0, 1.0])], "ppo", "finite"),
        ([policy_datum([1, 2, 3], [0.0, 0.0], [1.0, float("nan")])], "ppo", "finite"),
    ],
)
def test_bad_training_data_is_the_callers_fault_and_what_follows_still_runs(trainer, data, loss, reason):
    failing = trainer.forward_backward(data, loss)
    following = trainer.forward([datum([1, 2, 3])], "cross_entropy")
    with pytest.raises(tinker.RequestFailedError, match=reason) as failed:
        failing.result()
    assert failed.value.category == types.RequestErrorCategory.User
    assert "loss:sum" in following.result().metrics


@pytest.mark.parametrize("rate", [-1e-4, float("nan"), float("inf")])
def test_a_learning_rate_that_is_no_rate_is_refused_and_steps_nothing(trainer, rate):
    with pytest.raises(tinker.RequestFailedError, match="learning_rate"):
        trainer.optim_step(types.AdamParams(learning_rate=rate)).result()
    assert "loss:sum" in trainer.forward([datum([1, 2, 3])], "cross_entropy").result().metrics


@pytest.mark.parametrize("rank", [0, -1, 65])
def test_a_rank_that_is_impossible_is_refused_with_the_range(server, service, rank):
    with pytest.raises(tinker.BadRequestError, match="1 to 64"):
        service.create_lora_training_client(str(server.model), rank=rank).result()


def test_the_base_model_is_known_by_its_folders_name_and_no_other(server, service):
    service.create_lora_training_client(server.model.name, rank=2).result()
    with pytest.raises(tinker.BadRequestError, match="this server serves"):
        service.create_lora_training_client("Qwen/Qwen3-8B", rank=2).result()


def test_what_was_saved_is_listed_described_and_deleted(service, rest, trainer):
    model_id = trainer.get_info().model_id
    state = trainer.save_state("keep", ttl_seconds=7200).result().path
    sampler = trainer.save_weights_for_sampler("serve").result().path
    trainer.save_weights_and_get_sampling_client().result()  # has no name, so it is listed nowhere

    listed = {each.tinker_path: each for each in rest.list_checkpoints(model_id).result().checkpoints}
    assert set(listed) == {state, sampler}
    assert (listed[state].checkpoint_type, listed[sampler].checkpoint_type) == ("training", "sampler")
    assert listed[state].expires_at is not None
    assert listed[sampler].size_bytes > 0
    info = rest.get_weights_info_by_tinker_path(state).result()
    assert (info.is_lora, info.lora_rank) == (True, 4)
    run = rest.get_training_run(model_id).result()
    assert run.last_sampler_checkpoint.tinker_path == sampler
    rest.set_checkpoint_ttl_from_tinker_path(state, None).result()
    rest.publish_checkpoint_from_tinker_path(sampler).result()
    rest.delete_checkpoint_from_tinker_path(state).result()
    (left,) = rest.list_checkpoints(model_id).result().checkpoints
    assert (left.tinker_path, left.public) == (sampler, True)
    with pytest.raises(tinker.RequestFailedError, match="does not exist"):
        service.create_training_client_from_state(state).result()


def test_deleting_weights_frees_the_disk_and_running_answers_go_on(server, http, rest, trainer):
    path = trainer.save_weights_for_sampler("short-lived").result().path
    prompt = {"chunks": [{"tokens": [1, 2, 3]}]}
    body = {"model_path": path, "prompt": prompt, "sampling_params": {"max_tokens": 600, "seed": 1, "stop": []}}

    def result(submitted):
        return http.post("/api/v1/retrieve_future", json={"request_id": submitted.json()["request_id"]})

    short = {**body, "sampling_params": {"max_tokens": 1}}
    assert deserialize_sample_response(result(http.post("/api/v1/asample", json=short)).content)  # it is loaded
    (directory,) = server.data_dir.glob("checkpoints/*/sampler_weights/short-lived")
    running = [http.post("/api/v1/asample", json=body) for _ in range(3)]
    rest.delete_checkpoint_from_tinker_path(path).result()
    assert not directory.exists()
    for answer in running:
        assert len(deserialize_sample_response(result(answer).content).sequences[0].tokens) == 600
    assert http.post("/api/v1/asample", json=body).status_code == 404


def test_a_finished_session_leaves_nothing_in_the_engine(server, rest):
    own = tinker.ServiceClient(base_url=server.url, api_key=f"tml-{API_KEY}")
    client = own.create_lora_training_client(str(server.model), rank=2).result()
    model_id = client.get_info().model_id
    own.close("success").result()
    assert rest.get_training_run(model_id).result().training_run_id == model_id


def test_a_model_that_was_never_made_is_named(http):
    body = {"model_id": f"{uuid.uuid4()}:train:0", "seq_id": 1}
    answer = http.post("/api/v1/optim_step", json=body)
    assert answer.status_code == 404
    assert "resume from a checkpoint" in answer.json()["detail"]


def test_importance_sampling_compares_like_with_like_at_the_temperature_of_sampling(trainer):
    """KNOWLEDGE 1.6: log-probs of another distribution than the one drawn from make every ratio wrong."""
    sampler = trainer.save_weights_and_get_sampling_client().result()
    params = types.SamplingParams(max_tokens=16, temperature=0.7, seed=3, stop=[])
    sequence = sampler.sample(types.ModelInput.from_ints([1, 2, 3]), 1, params).result().sequences[0]
    tokens = [1, 2, 3, *sequence.tokens]
    logprobs = [0.0, 0.0, *sequence.logprobs]
    advantages = [0.0, 0.0, *[1.0] * len(sequence.tokens)]
    loss = trainer.forward_backward(
        [policy_datum(tokens, logprobs, advantages)], "importance_sampling", loss_fn_config={"temperature": 0.7}
    ).result()
    assert loss.metrics["loss:sum"] == pytest.approx(-len(sequence.tokens), abs=0.02)
    np.testing.assert_allclose(loss.loss_fn_outputs[0]["logprobs"].data[2:], sequence.logprobs, atol=1e-3)
