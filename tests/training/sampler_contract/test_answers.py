"""Whatever samples, one answer to one request is the same: tokens, both kinds of log-probs, seeds, stops."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from tinker import types

from tests.training.sampler_contract.conftest import CONTEXT

PROMPT = [72, 69, 76, 76, 79]
DRAWS = {
    "as it is": {},
    "tempered": {"temperature": 0.7},
    "hot": {"temperature": 1.6},
    "truncated": {"temperature": 0.8, "top_p": 0.9, "top_k": 20},
}
HI = [{"role": "user", "content": "hi"}]


def sample(weights, n=1, prompt=PROMPT, **params):
    settings = types.SamplingParams(**{"max_tokens": 12, "stop": [], **params})
    return weights.client.sample(types.ModelInput.from_ints(prompt), n, settings).result()


def decoded(record, name, dtype):
    return np.frombuffer(base64.b64decode(record[name]), dtype)


def test_greedy_tokens_are_those_of_transformers_generate(weights):
    expected = weights.reference.greedy(PROMPT, 48)
    assert sample(weights, max_tokens=48, temperature=0.0).sequences[0].tokens == expected


@pytest.mark.parametrize("stream", [False, True])
def test_greedy_tokens_of_openais_endpoint_are_those_of_transformers_generate(chat, weights, stream):
    extra = {"return_token_ids": True, "return_policy_record": True}
    answer = chat.chat.completions.create(
        model=weights.model, messages=HI, max_tokens=32, temperature=0.0, stream=stream, extra_body=extra
    )
    record = (list(answer)[-1] if stream else answer).model_extra["policy_record"]
    prompt, tokens = (decoded(record, name, "<i4").tolist() for name in ("prompt_tokens", "tokens"))
    tokens = tokens[:-1] if record["stop_reason"] == "stop" else tokens  # the end, which the other never makes
    assert tokens
    assert tokens == weights.reference.greedy(prompt, 32)[: len(tokens)]


def test_base_and_adapter_answer_differently(base, tuned):
    """Else nothing here would notice an adapter that is not served."""
    first, second = (sample(each, max_tokens=24, temperature=0.0).sequences[0].tokens for each in (base, tuned))
    assert first != second


@pytest.mark.parametrize("draw", DRAWS)
def test_log_probs_of_sampled_tokens_are_those_of_the_distribution_drawn_from(weights, draw):
    """PITFALLS B8: they were taken before top_k and top_p."""
    sequence = sample(weights, max_tokens=40, seed=3, **DRAWS[draw]).sequences[0]
    expected = weights.reference.logprobs(PROMPT + sequence.tokens, **DRAWS[draw])[-40:]
    np.testing.assert_allclose(sequence.logprobs, expected, atol=1e-3)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_policy_record_has_both_kinds_of_log_probs(chat, weights, draw, stream):
    settings = dict(DRAWS[draw])
    extra = {"return_policy_record": True, **({"top_k": settings.pop("top_k")} if "top_k" in settings else {})}
    answer = chat.chat.completions.create(
        model=weights.model, messages=HI, max_tokens=40, seed=4, stream=stream, **settings, extra_body=extra
    )
    record = (list(answer)[-1] if stream else answer).model_extra["policy_record"]
    tokens = decoded(record, "tokens", "<i4").tolist()
    whole = decoded(record, "prompt_tokens", "<i4").tolist() + tokens
    for name, options in (("logprobs", DRAWS[draw]), ("logprobs_full", {})):
        expected = weights.reference.logprobs(whole, **options)[-len(tokens) :]
        np.testing.assert_allclose(decoded(record, name, "<f4"), expected, atol=1e-3, err_msg=name)


def test_log_probs_agree_with_the_trainers_forward(trainer, tuned):
    sequence = sample(tuned, max_tokens=60, seed=9).sequences[0]
    whole = PROMPT + sequence.tokens
    datum = types.Datum(
        model_input=types.ModelInput.from_ints(whole[:-1]),
        loss_fn_inputs={"target_tokens": whole[1:], "weights": [1.0] * (len(whole) - 1)},
    )
    trained = trainer.forward([datum], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
    np.testing.assert_allclose(sequence.logprobs, trained[len(PROMPT) - 1 :], atol=1e-3)


@pytest.mark.parametrize("draw", DRAWS)
def test_openais_log_probs_are_at_temperature_1_also_while_streaming(chat, weights, draw):
    settings = {name: value for name, value in DRAWS[draw].items() if name != "top_k"}
    asked = {"model": weights.model, "messages": HI, "max_tokens": 24, "seed": 5, "logprobs": True, "top_logprobs": 2}
    chunks = chat.chat.completions.create(
        **asked, **settings, stream=True, extra_body={"return_token_ids": True, "return_policy_record": True}
    )
    chunks = list(chunks)
    deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
    entries = [entry for choice in deltas if choice.logprobs for entry in choice.logprobs.content]
    record = chunks[-1].model_extra["policy_record"]
    full = decoded(record, "logprobs_full", "<f4")
    np.testing.assert_allclose([entry.logprob for entry in entries], full[: len(entries)], atol=1e-6)
    assert all(len(entry.top_logprobs) == 2 for entry in entries)
    assert all(entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob for entry in entries)
    whole = decoded(record, "prompt_tokens", "<i4").tolist() + decoded(record, "tokens", "<i4").tolist()
    np.testing.assert_allclose(full, weights.reference.logprobs(whole)[-len(full) :], atol=1e-3)


def test_the_likeliest_tokens_are_given_for_prompt_and_answer(weights):
    settings = types.SamplingParams(max_tokens=20, stop=[], temperature=0.7, seed=1)
    prompt = types.ModelInput.from_ints(PROMPT)
    response = weights.client.sample(
        prompt, 1, settings, include_prompt_logprobs=True, topk_prompt_logprobs=3, topk_sample_logprobs=3
    ).result()
    whole = PROMPT + response.sequences[0].tokens
    rows = [*response.topk_prompt_logprobs[1:], *response.sequences[0].topk_logprobs]
    assert [[token for token, _ in row] for row in rows] == weights.reference.likeliest(whole, 3)


def test_prompts_are_scored_up_to_the_whole_context(weights):
    tokens = [(7 * place) % 250 for place in range(CONTEXT)]
    scored = weights.client.compute_logprobs(types.ModelInput.from_ints(tokens)).result()
    assert scored[0] is None
    np.testing.assert_allclose(scored[1:], weights.reference.logprobs(tokens), atol=1e-3)
    with pytest.raises(Exception, match="1025 tokens"):
        weights.client.compute_logprobs(types.ModelInput.from_ints([*tokens, 1])).result()


def test_the_same_seed_gives_the_same_tokens_whoever_else_is_served(weights):
    alone = sample(weights, seed=5, max_tokens=30).sequences[0].tokens
    prompt = types.ModelInput.from_ints(PROMPT)
    others = [
        weights.client.sample(prompt, 2, types.SamplingParams(max_tokens=40, stop=[], temperature=heat))
        for heat in (0.5, 1.0, 1.5)
    ]
    assert sample(weights, seed=5, max_tokens=30).sequences[0].tokens == alone
    assert sample(weights, seed=6, max_tokens=30).sequences[0].tokens != alone
    assert all(len(each.result().sequences) == 2 for each in others)


def test_samples_of_one_request_differ_and_do_not_depend_on_their_number(weights):
    three = sample(weights, 3, seed=8, max_tokens=20).sequences
    assert len({tuple(each.tokens) for each in three}) == 3
    assert len({each.sequence_id for each in three}) == 3
    assert sample(weights, 1, seed=8, max_tokens=20).sequences[0].tokens == three[0].tokens


def test_requests_without_a_seed_differ(weights):
    assert len({tuple(sample(weights, max_tokens=20).sequences[0].tokens) for _ in range(3)}) == 3


def test_every_form_of_stop_means_what_it_says(weights):
    """Protocol section 5: a string, strings, tokens, an empty list, nothing.

    PITFALLS B8: strings were cut into tokens.
    """

    def stopped(stop):
        sequence = sample(weights, seed=11, max_tokens=60, stop=stop).sequences[0]
        return sequence.tokens, sequence.stop_reason, len(sequence.logprobs)

    tokens, reason, _ = stopped([])
    assert (len(tokens), reason) == (60, "length")
    for place in (3, 17):
        cut = tokens[: tokens.index(tokens[place]) + 1]
        assert stopped([tokens[place]]) == (cut, "stop", len(cut))
    assert stopped(None)[0] == tokens[: len(stopped(None)[0])]  # the model's own end, should it come
    # Of this tokenizer, the first 94 tokens are the printable characters of ASCII.
    letter = next(token for token in tokens if token < 94 and chr(token + 33).isalnum())
    cut = tokens[: tokens.index(letter) + 1]
    for stop in (chr(letter + 33), [chr(letter + 33), "never"]):
        assert stopped(stop) == (cut, "stop", len(cut))


def test_an_end_token_ends_the_answer_and_is_part_of_it(weights, contracted):
    """The model is asked until it ends by itself; a stop of tokens takes the end's place."""
    ended = next(
        sequence
        for seed in range(60)
        if (sequence := sample(weights, seed=seed, max_tokens=200, stop=None).sequences[0]).stop_reason == "stop"
    )
    assert ended.tokens[-1] == 256  # <|im_end|> of the tiny model
    assert len(ended.tokens) == len(ended.logprobs)


def test_an_answer_ends_at_the_end_of_the_context(weights):
    prompt = [(5 * place) % 250 for place in range(CONTEXT - 6)]
    sequence = sample(weights, prompt=prompt, max_tokens=50).sequences[0]
    assert (len(sequence.tokens), sequence.stop_reason) == (6, "length")
