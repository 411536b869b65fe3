"""Sampling through the official SDK, against a real server with real workers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tinker
from tinker import types

from tests.training.api.test_tinker_training import datum

PROMPT = types.ModelInput.from_ints([1, 2, 3])


@pytest.fixture(scope="module")
def trainer(server, service):
    client = service.create_lora_training_client(str(server.model), rank=4, seed=7).result()
    client.forward_backward([datum([1, 2, 3, 4])], "cross_entropy")
    client.optim_step(types.AdamParams(learning_rate=1e-2)).result()
    return client


@pytest.fixture(scope="module")
def sampler(trainer):
    return trainer.save_weights_and_get_sampling_client().result()


def sample(sampler, n=1, prompt=PROMPT, **params):
    return sampler.sample(prompt, n, types.SamplingParams(**{"max_tokens": 6, "stop": [], **params})).result()


def test_each_sample_has_tokens_log_probs_and_an_id_of_its_own(sampler):
    """Protocol point 3. PITFALLS B8: num_samples was ignored."""
    sequences = sample(sampler, 3).sequences
    assert [len(each.tokens) for each in sequences] == [6, 6, 6]
    assert [len(each.logprobs) for each in sequences] == [6, 6, 6]
    assert len({each.sequence_id for each in sequences}) == 3


def test_the_same_seed_gives_the_same_tokens(sampler):
    assert sample(sampler, seed=5).sequences[0].tokens == sample(sampler, seed=5).sequences[0].tokens


def test_every_form_of_stop_means_what_it_says(sampler):
    """Protocol section 5: a string, strings, tokens, an empty list, nothing.

    PITFALLS B8: strings were cut into tokens.
    """

    def stopped(stop):
        sequence = sample(sampler, seed=11, max_tokens=40, stop=stop).sequences[0]
        return sequence.tokens, sequence.stop_reason

    tokens, reason = stopped([])
    assert (len(tokens), reason) == (40, "length")
    assert stopped([tokens[3]]) == (tokens[: tokens.index(tokens[3]) + 1], "stop")
    assert stopped(None)[0] == tokens[: len(stopped(None)[0])]  # the model's own end, should it come
    # Of this tokenizer, the first 94 tokens are the printable characters of ASCII.
    letter = next(token for token in tokens if token < 94 and chr(token + 33).isalnum())
    for stop in (chr(letter + 33), [chr(letter + 33), "never"]):
        cut, reason = stopped(stop)
        assert (cut[-1], reason) == (letter, "stop")
        assert cut == tokens[: len(cut)]


def test_prompt_log_probs_are_as_long_as_the_prompt_and_agree_with_the_trainer(trainer, sampler):
    tokens = [1, 2, 3, 4, 5, 6]
    scored = sampler.compute_logprobs(types.ModelInput.from_ints(tokens)).result()
    assert scored[0] is None
    trained = trainer.forward([datum(tokens)], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
    np.testing.assert_allclose(scored[1:], trained, atol=1e-3)


def test_the_likeliest_tokens_are_given_for_prompt_and_answer(sampler):
    params = types.SamplingParams(max_tokens=2, stop=[])
    response = sampler.sample(
        PROMPT, 1, params, include_prompt_logprobs=True, topk_prompt_logprobs=3, topk_sample_logprobs=2
    ).result()
    assert response.topk_prompt_logprobs[0] is None
    assert [len(row) for row in response.topk_prompt_logprobs[1:]] == [3, 3]
    assert [len(row) for row in response.sequences[0].topk_logprobs] == [2, 2]


def test_a_sampling_client_keeps_its_weights_while_training_goes_on(trainer, sampler):
    before = sampler.compute_logprobs(PROMPT).result()
    trainer.forward_backward([datum([1, 2, 3, 4])], "cross_entropy")
    trainer.optim_step(types.AdamParams(learning_rate=1e-2))
    newer = trainer.save_weights_and_get_sampling_client().result()
    assert sampler.compute_logprobs(PROMPT).result() == before
    assert newer.compute_logprobs(PROMPT).result() != before


def test_the_base_model_and_named_weights_are_sampled_by_their_names(server, service, trainer):
    path = trainer.save_weights_for_sampler("v1").result().path
    named = service.create_sampling_client(model_path=path).result()
    base = service.create_sampling_client(base_model=str(server.model)).result()
    assert named.compute_logprobs(PROMPT).result() != base.compute_logprobs(PROMPT).result()
    assert named.get_base_model() == str(server.model)


def test_a_pickled_client_samples_with_numbers_beyond_53_bits(server, sampler):
    """Protocol section 5: clones number their samples from clone_id * 1e9."""
    body = pickle.dumps(sampler)
    clone = pickle.loads(body)
    assert len(sample(clone).sequences) == 1
    clone.holder.close()


def test_many_samples_at_once_all_come_back(sampler):
    pending = [sampler.sample(PROMPT, 1, types.SamplingParams(max_tokens=8, stop=[])) for _ in range(64)]
    assert [len(each.result().sequences[0].tokens) for each in pending] == [8] * 64


@pytest.mark.parametrize(
    ("params", "prompt", "reason"),
    [
        ({"max_tokens": 0}, PROMPT, "max_tokens"),
        ({"temperature": -1.0}, PROMPT, "temperature"),
        ({"top_p": 0.0}, PROMPT, "top_p"),
        ({"stop": [""]}, PROMPT, "empty"),
        ({}, types.ModelInput.from_ints([5000]), "vocabulary"),
        ({}, types.ModelInput.from_ints([]), "empty"),
        ({}, types.ModelInput.from_ints([1] * 1025), "1024"),
    ],
)
def test_a_sample_that_is_impossible_says_why(sampler, params, prompt, reason):
    with pytest.raises((tinker.BadRequestError, tinker.RequestFailedError), match=reason):
        sample(sampler, prompt=prompt, **params)


def test_weights_that_do_not_exist_are_named(service, trainer):
    path = f"tinker://{trainer.get_info().model_id}/sampler_weights/nothing"
    with pytest.raises(tinker.NotFoundError, match="nothing"):
        service.create_sampling_client(model_path=path).result()


def test_an_asked_for_but_unserved_option_is_refused_not_ignored(http, server):
    """Protocol section 5: the client raises on what is silently ignored."""
    body = {
        "base_model": "tiny-qwen3", "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1]}]},
        "sampling_params": {"max_tokens": 1}, "prompt_alt_tokens_k": 3,
    }  # fmt: skip
    answer = http.post("/api/v1/asample", json=body)
    assert (answer.status_code, "prompt_alt_tokens_k" in answer.json()["detail"]) == (400, True)


def test_a_cancelled_sample_ends_and_says_so(server, http):
    body = {
        "base_model": "tiny-qwen3", "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1]}]},
        "sampling_params": {"max_tokens": 1000, "stop": []}, "num_samples": 8,
    }  # fmt: skip
    with server.suspended("sampler"):  # so it cannot be done before it is cancelled
        submitted = http.post("/api/v1/asample", json=body).json()
        http.post("/api/v1/cancel_future", json={"request_id": submitted["request_id"]})
    failed = http.post("/api/v1/retrieve_future", json={"request_id": submitted["request_id"]}).json()
    assert failed == {"error": "the request was cancelled by the client", "category": "user"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"num_samples": 10**9}, "num_samples"),
        ({"num_samples": 0}, "num_samples"),
        ({"sampling_params": {"seed": 2**64}}, "sampling_params.seed"),
        ({"sampling_params": {"max_tokens": 2**70}}, "sampling_params.max_tokens"),
        ({"sampling_params": {"top_k": 2**70}}, "sampling_params.top_k"),
        ({"topk_prompt_logprobs": 2**70}, "topk_prompt_logprobs"),
        ({"prompt": {"chunks": [{"tokens": [2**70]}]}}, "prompt"),
    ],
)
def test_a_number_beyond_what_can_be_served_is_refused_by_name_at_the_door(http, change, name):
    body = {"base_model": "tiny-qwen3", "prompt": {"chunks": [{"tokens": [1]}]}, **change}
    answer = http.post("/api/v1/asample", json=body)
    assert answer.status_code == 400
    assert name in answer.json()["detail"]
