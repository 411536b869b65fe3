"""Thinking, calls and histories of a model that was taught one answer, whatever samples it.

The tiny model thinks and calls nothing on purpose, so it is trained on one answer until it gives it: what is read from
then on went the whole way, from the sampler's tokens to what a client of OpenAI's sees.
"""

from __future__ import annotations

import itertools
import json

import openai
import pytest
import tinker
from openai.lib.streaming.chat import ChatCompletionStreamState
from tinker import types

from tests.fakes.tiny_model import byte_tokenizer
from tests.fakes.training_server import API_KEY

TOKENIZER = byte_tokenizer()
THINKING = "<think>\nHm.\n</think>\n\n"
ANSWER = f'{THINKING}I see.\n<tool_call>\n{{"name": "look_up", "arguments": {{"n": 5}}}}\n</tool_call>'
ASKED = [{"role": "user", "content": [{"type": "text", "text": "Well"}, {"type": "text", "text": "?"}]}]
TOOLS = [
    {"type": "function", "function": {"name": "look_up", "parameters": {"properties": {"n": {"type": "integer"}}}}}
]
IDS = {"return_token_ids": True}
STEPS = 200


def prompt_of(chat: openai.OpenAI, model: str, messages: list, tools: list) -> list[int]:
    answer = chat.chat.completions.create(model=model, messages=messages, tools=tools, max_tokens=1, extra_body=IDS)
    return answer.model_extra["prompt_token_ids"]


@pytest.fixture(scope="module")
def taught(contracted, service: tinker.ServiceClient) -> str:
    """Weights whose greedy answer to ``ASKED`` is ``ANSWER``."""
    base = str(contracted.server.model)
    with openai.OpenAI(base_url=f"{contracted.server.url}/v1", api_key=API_KEY, timeout=300) as chat:
        prompt = prompt_of(chat, base, ASKED, TOOLS)
    answer = [*TOKENIZER.encode(ANSWER), TOKENIZER.eos_token_id]
    whole = prompt + answer
    weights = [0.0] * (len(prompt) - 1) + [1.0] * len(answer)
    data = [
        types.Datum(
            model_input=types.ModelInput.from_ints(whole[:-1]),
            loss_fn_inputs={"target_tokens": whole[1:], "weights": weights},
        )
    ]
    client = service.create_lora_training_client(base, rank=8, seed=7).result()
    for step in range(STEPS):
        passed = client.forward_backward(data, "cross_entropy")
        client.optim_step(types.AdamParams(learning_rate=5e-3, grad_clip_norm=1.0))
        if step % 20 == 19 and min(passed.result().loss_fn_outputs[0]["logprobs"].data[len(prompt) - 1 :]) > -0.4:
            return client.save_weights_for_sampler("taught").result().path
    raise AssertionError("the model did not learn its answer")


def asked(chat: openai.OpenAI, model: str, *, stream: bool, **more):
    """The one choice, folded by the SDK where it is streamed, and the answer's usage."""
    given = {"model": model, "messages": ASKED, "tools": TOOLS, "temperature": 0, "max_tokens": 200, **more}
    if not stream:
        answer = chat.chat.completions.create(**given)
        return answer.choices[0], answer.usage, answer.choices[0].message.model_extra.get("reasoning_content")
    state, thought = ChatCompletionStreamState(), ""
    for chunk in chat.chat.completions.create(**given, stream=True, stream_options={"include_usage": True}):
        state.handle_chunk(chunk)
        for choice in chunk.choices:
            thought += choice.delta.model_extra.get("reasoning_content", "")
    answer = state.current_completion_snapshot  # the final one is an exception where the length limit cut it off
    return answer.choices[0], answer.usage, thought


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_thinks_speaks_and_calls_falls_into_its_parts(chat, taught, stream):
    """PITFALLS P1: reasoning, usage and the index of calls were lost in streams."""
    choice, usage, thought = asked(chat, taught, stream=stream)
    assert (thought, choice.message.content, choice.finish_reason) == ("Hm.", "I see.", "tool_calls")
    (call,) = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("look_up", {"n": 5})
    assert usage.completion_tokens == len(TOKENIZER.encode(ANSWER)) + 1
    assert usage.completion_tokens_details.reasoning_tokens > 3


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_that_the_length_limit_cuts_off_is_thinking_and_no_content(chat, taught, stream):
    choice, usage, thought = asked(chat, taught, stream=stream, max_tokens=4)
    assert (thought, choice.message.content or "", choice.finish_reason) == ("Hm", "", "length")
    assert usage.completion_tokens == 4


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_the_length_limit_cuts_off_is_no_call(chat, taught, stream):
    cut = len(TOKENIZER.encode(ANSWER)) - 10
    choice, _, thought = asked(chat, taught, stream=stream, max_tokens=cut)
    assert (thought, choice.finish_reason, choice.message.tool_calls) == ("Hm.", "length", None)
    assert choice.message.content.startswith("I see.\n<tool_call>")


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_of_several_tokens_ends_the_answer_before_it(chat, taught, stream):
    """PITFALLS B8: stop strings were cut into single tokens."""
    choice, _, thought = asked(chat, taught, stream=stream, stop=["see"])
    assert (thought, choice.message.content, choice.finish_reason) == ("Hm.", "I ", "stop")


def test_the_answer_comes_back_as_history_with_its_own_tokens_and_the_tools_result(chat, taught):
    """PITFALLS R3: past answers were rendered and tokenised again, and no longer were what had been sampled.

    The tiny model's template shows no thinking of the past, so that part is left out.
    """
    given = {"model": taught, "tools": TOOLS, "temperature": 0, "extra_body": IDS}
    first = chat.chat.completions.create(messages=ASKED, **given)
    message = first.choices[0].message
    said = {**message.model_dump(exclude_none=True), "token_ids": first.choices[0].model_extra["token_ids"]}
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "42"}
    raw = chat.chat.completions.with_raw_response.create(messages=[*ASKED, said, result], max_tokens=1, **given)
    assert (raw.headers["X-MetaClaw-Spliced"], raw.headers["X-MetaClaw-Splice-Misses"]) == ("1", "0")
    prompt = raw.parse().model_extra["prompt_token_ids"]
    said_aloud = said["token_ids"][len(TOKENIZER.encode(THINKING)) :]
    before = first.model_extra["prompt_token_ids"] + said_aloud
    assert prompt[: len(before)] == before
    assert "42" in TOKENIZER.decode(prompt[len(before) :])


def test_no_history_is_cut_to_fit(chat, taught):
    """PITFALLS B8, P6: the system prompt was cut to 1000 characters, and all but the last four messages dropped."""
    system = "".join(f"rule {number};" for number in range(50))
    turns = itertools.chain.from_iterable(
        ({"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": f"reply {number}"})
        for number in range(4)
    )
    messages = [{"role": "system", "content": system}, *turns, {"role": "user", "content": "last"}]
    shown = TOKENIZER.decode(prompt_of(chat, taught, messages, []))
    for message in messages:
        assert message["content"] in shown
    with pytest.raises(openai.BadRequestError) as refused:
        prompt_of(chat, taught, [{"role": "system", "content": system * 3}, *messages], [])
    assert refused.value.code == "context_length_exceeded"
