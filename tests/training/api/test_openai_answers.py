"""Thinking, tool calls and spliced history at the OpenAI endpoint.

A tiny model thinks and calls nothing on purpose, so what a model might say is put through the code that makes answers;
what the real server does with a history is asked of the real server.
"""

from __future__ import annotations

import base64
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from metaclaw.training.api.chat_answer import Completion
from metaclaw.training.api.chat_choice import Choice
from metaclaw.training.api.sampling import Finished, Tokens
from metaclaw.training.commands import Generate
from tests.fakes.tiny_model import byte_tokenizer
from tests.rendering.families import TOOLS, family

HI = [{"role": "user", "content": "hi"}]
TOKENIZER = byte_tokenizer()
CALL = '<tool_call>\n{"name": "look_up", "arguments": {"n": 5}}\n</tool_call>'


def said(tokens, sample=0):
    nothing = np.zeros(len(tokens), np.float32)
    return Tokens(
        sample=sample, tokens=np.array(tokens, np.int32), logprobs=nothing, logprobs_full=nothing, topk=None
    )  # fmt: skip


def answered(text, *, stop_reason="stop", tags="special", starts_thinking=False, size=1, **wants):
    """The whole answer and the chunks of a stream, when the model says ``text`` in pieces of ``size`` tokens."""
    renderer = family("qwen3", tags=tags)
    end = renderer.tokenizer.eos_token_id
    tokens = renderer.tokenizer.encode(text, add_special_tokens=False)
    numbers = itertools.count(1)
    completion = Completion(
        completion_id="chatcmpl-1",
        created=0,
        model="m",
        command=Generate(adapter_id=None, prompt=np.array([1, 2, 3], np.int32)),
        choices=[
            Choice(
                0, renderer, renderer.reader(TOOLS, end_tokens={end}, starts_thinking=starts_thinking),
                frozenset({end}), lambda: f"call_{next(numbers)}",
            )
        ],
        **wants,
    )  # fmt: skip
    chunks = []
    for start in range(0, len(tokens), size):
        chunks += completion.take(0, said(tokens[start : start + size]))
    chunks += completion.take(0, Finished(sample=0, stop_reason=stop_reason, cached_tokens=2))
    return completion.whole(), chunks, completion


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("tags", ["special", "added", "text"])
def test_a_stream_of_two_calls_is_folded_by_the_sdk_into_the_whole_answer(size, tags):
    """PITFALLS, faults: streaming with two tool calls merged them, and the SDK's helper raised TypeError."""
    text = f"<think>\nHm.\n</think>\n\nI see.\n{CALL}\n{CALL}<|im_end|>"
    whole, chunks, _ = answered(text, size=size, tags=tags)
    answer = ChatCompletion.model_validate(whole)
    message = answer.choices[0].message
    assert (message.content, message.model_extra["reasoning_content"]) == ("I see.", "Hm.")
    assert [(call.id, call.function.name) for call in message.tool_calls] == [
        ("call_1", "look_up"),
        ("call_2", "look_up"),
    ]
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [{"n": 5}, {"n": 5}]
    assert answer.choices[0].finish_reason == "tool_calls"
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    folded = state.get_final_completion().choices[0]
    assert folded.finish_reason == "tool_calls"
    assert folded.message.content == "I see."
    assert [call.function.arguments for call in folded.message.tool_calls] == ['{"n": 5}', '{"n": 5}']
    thought = [chunk["choices"][0]["delta"].get("reasoning_content", "") for chunk in chunks]
    assert "".join(thought) == "Hm."
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [bool(chunk["choices"][0]["finish_reason"]) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_the_name_of_a_call_comes_before_its_arguments():
    _, chunks, _ = answered(f"{CALL}<|im_end|>")
    calls = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert [(call["index"], call["function"].get("name"), call["function"]["arguments"]) for call in calls] == [
        (0, "look_up", ""), (0, None, '{"n": 5}')
    ]  # fmt: skip


def test_an_answer_of_calls_alone_has_no_content_and_one_cut_off_keeps_it():
    assert answered(f"{CALL}<|im_end|>")[0]["choices"][0]["message"]["content"] is None
    choice = answered(CALL[:-20], stop_reason="length")[0]["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (CALL[:-20], "length")
    assert "tool_calls" not in choice["message"]


def test_thinking_that_is_cut_off_is_all_thinking_and_is_counted():
    whole, chunks, _ = answered("Hm. Hm", stop_reason="length", starts_thinking=True)
    message = whole["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("", "Hm. Hm")
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 6}
    assert whole["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == ""


def test_the_policy_record_names_what_its_tokens_are():
    _, _, completion = answered(f"<think>a</think>b{CALL}<|im_end|>", wants_policy_record=True)
    record = completion.last_chunk()["policy_record"]
    assert [kind for kind, *_ in record["spans"]] == ["think", "text", "calls", "end"]
    assert record["stop_reason"] == "stop"


def history(answer, content):
    record = answer.model_extra["policy_record"]
    return {"role": "assistant", "content": content, "token_ids": record["tokens"], "renderer": record["renderer"]}


def numbers(record, name):
    return np.frombuffer(base64.b64decode(record[name]), "<i4").tolist()


def plain_answer(chat, messages):
    """An answer without stray tags: a tiny model writes some now and then, and a client may not send those back."""
    for seed in itertools.count():
        raw = chat.chat.completions.with_raw_response.create(
            model="tiny-qwen3", messages=messages, max_tokens=8, seed=seed, extra_body={"return_policy_record": True}
        )
        tokens = numbers(raw.parse().model_extra["policy_record"], "tokens")
        if not set(tokens) & set(TOKENIZER.all_special_ids) - {TOKENIZER.eos_token_id}:
            return raw.headers, raw.parse()


def test_every_turn_of_a_chat_begins_with_the_tokens_of_the_turns_before(chat):
    """What lets the learner and the prefix cache share prefixes."""
    messages, before = [*HI], []
    for turn in range(4):
        headers, answer = plain_answer(chat, messages)
        record = answer.model_extra["policy_record"]
        prompt = numbers(record, "prompt_tokens")
        assert int(headers.get("X-MetaClaw-Spliced", 0)) == turn
        assert int(headers.get("X-MetaClaw-Splice-Misses", 0)) == 0
        assert prompt[: len(before)] == before
        before = prompt + numbers(record, "tokens")
        messages += [history(answer, answer.choices[0].message.content), *HI]


def test_what_was_edited_is_rendered_and_counted_as_a_miss(chat, http):
    answer = chat.chat.completions.create(
        model="tiny-qwen3", messages=HI, max_tokens=8, extra_body={"return_policy_record": True}
    )
    edited = [*HI, history(answer, "edited"), *HI]
    raw = chat.chat.completions.with_raw_response.create(
        model="tiny-qwen3", messages=edited, max_tokens=1, extra_body={"return_token_ids": True}
    )
    assert (raw.headers["X-MetaClaw-Spliced"], raw.headers["X-MetaClaw-Splice-Misses"]) == ("0", "1")
    assert "edited" in TOKENIZER.decode(raw.parse().model_extra["prompt_token_ids"])
    shown = http.get("/metrics").text
    assert float(shown.split("\nmetaclaw_splice_misses ")[1].split("\n")[0]) >= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "look_up"}}}, "tool_choice"),
        ({"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}, "chat_template"),
        ({"chat_template_kwargs": {"enable_thinking": ["x"]}}, "chat_template_kwargs"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
    ],
)
def test_what_cannot_be_honoured_is_refused(chat, change, words):
    with pytest.raises(openai.BadRequestError, match=words):
        chat.chat.completions.create(
            model="tiny-qwen3", messages=HI, max_tokens=2, tools=TOOLS, extra_body=change
        )  # fmt: skip


def test_a_conversation_with_tools_and_the_options_of_a_template_is_served(chat):
    call = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": '{"n": 1}'}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "Hm."},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "42"}]},
    ]
    answer = chat.chat.completions.create(
        model="tiny-qwen3", messages=messages, tools=TOOLS, parallel_tool_calls=False, max_tokens=4,
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    )  # fmt: skip
    assert answer.usage.completion_tokens >= 1


def test_a_model_is_found_by_its_name(chat, server):
    assert chat.models.retrieve("tiny-qwen3").id == str(server.model)
    with pytest.raises(openai.NotFoundError):
        chat.models.retrieve("nope")


def test_a_long_history_does_not_hold_up_others(chat, http):
    """A body of megabytes is parsed, templated and refused in threads: the server answers others meanwhile."""
    long = {"role": "user", "content": "x " * 2_000_000}
    with ThreadPoolExecutor(1) as pool:
        refused = pool.submit(http.post, "/v1/chat/completions", json={"model": "tiny-qwen3", "messages": [long]})
        assert chat.models.list().data
        assert refused.result().status_code == 400
