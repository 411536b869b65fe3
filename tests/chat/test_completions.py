"""Legacy text completions, passed through or answered by a chat model."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion

from metaclaw.chat.completions import Completions
from metaclaw.chat.sse import SseParser
from metaclaw.chat.stream_assembler import StreamAssembler
from metaclaw.errors import InvalidRequestError

Json = dict[str, Any]
COMPLETIONS = Completions()
HEAD: Json = {"id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}


def chunk(index: int = 0, finish_reason: str | None = None, **delta: Any) -> Json:
    return {**HEAD, "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]}


def stream_of(chunks: list[Json], **request: Any) -> bytes:
    sink = COMPLETIONS.sink({"prompt": "hi", "stream": True, **request})
    return b"".join([*map(sink.add_chunk, chunks), sink.finish()])


def data_of(stream: bytes) -> list[Json]:
    *events, end = SseParser().feed(stream)
    assert end.data == "[DONE]"
    return [json.loads(event.data or "") for event in events]


@pytest.mark.parametrize("prompt", ["Once upon", ["Once upon"]])
def test_a_prompt_is_what_the_user_says(prompt: Any) -> None:
    request = COMPLETIONS.parse({"model": "m", "prompt": prompt, "n": 2, "temperature": 1})
    assert request.messages == [{"role": "user", "content": "Once upon"}]
    assert (request.num_answers, request.temperature, request.is_stream) == (2, 1.0, False)


@pytest.mark.parametrize("prompt", [["one", "two"], [1, 2, 3], [[1], [2]], []])
def test_several_prompts_and_tokens_pass_through_and_are_no_conversation(prompt: Any) -> None:
    body = {"model": "m", "prompt": prompt}
    request = COMPLETIONS.parse(body)
    assert request.messages == []
    assert COMPLETIONS.edited(request, blocks={}) == body
    with pytest.raises(InvalidRequestError, match="neither several prompts nor tokens"):
        COMPLETIONS.to_chat(body)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": "x", "n": 0}, "n"),
        ({"prompt": "x", "stream": 1}, "stream"),
    ],
)
def test_what_we_rely_on_is_checked(body: Json, param: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        COMPLETIONS.parse(body)
    assert refusal.value.param == param


@pytest.mark.parametrize("extra", [{"suffix": "end"}, {"echo": True}, {"logprobs": 0}, {"logprobs": 3}, {"best_of": 2}])
def test_what_a_chat_model_cannot_do_is_refused_by_name(extra: Json) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        COMPLETIONS.to_chat({"model": "m", "prompt": "hi", **extra})
    assert refusal.value.param == next(iter(extra))


def test_the_rest_of_a_request_is_handed_on() -> None:
    body = {
        "model": "m",
        "prompt": "hi",
        "max_tokens": 5,
        "stop": ["."],
        "n": 2,
        "seed": 1,
        "best_of": 1,
        "own": {"a": 1},
    }
    messages = [{"role": "user", "content": "hi"}]
    wanted = {"model": "m", "messages": messages, "max_tokens": 5, "stop": ["."], "n": 2, "seed": 1, "own": {"a": 1}}
    assert COMPLETIONS.to_chat(body) == wanted


def test_what_is_recalled_stands_before_the_prompt_which_the_model_continues() -> None:
    body = {"model": "m", "prompt": "Once upon", "own": 1}
    before = copy.deepcopy(body)
    edited = COMPLETIONS.edited(COMPLETIONS.parse(body), blocks={0: "block"})
    assert edited == {"model": "m", "prompt": "block\n\nOnce upon", "own": 1}
    assert body == before


def test_a_model_that_only_completes_is_told_no_messages() -> None:
    with pytest.raises(InvalidRequestError, match="only completes text"):
        COMPLETIONS.from_chat({"messages": []})


@given(st.lists(st.tuples(st.text(), st.sampled_from(["stop", "length"])), min_size=1, max_size=3))
def test_an_answer_is_what_the_sdk_expects_and_comes_back_unchanged(answers: list[tuple[str, str]]) -> None:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        for index, (text, reason) in enumerate(answers)
    ]
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    chat = {**HEAD, "object": "chat.completion", "choices": choices, "usage": usage}
    answer = COMPLETIONS.answer_from_chat(chat, {})
    parsed = Completion.model_validate(answer, strict=True)
    assert [(choice.text, choice.finish_reason) for choice in parsed.choices] == answers
    assert COMPLETIONS.answer_to_chat(answer) == chat


@given(st.lists(st.text(min_size=1), max_size=4), st.data())
def test_a_stream_comes_back_unchanged_wherever_it_is_cut(pieces: list[str], data: st.DataObject) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    chunks = [
        chunk(role="assistant", content=""),
        *(chunk(content=piece) for piece in pieces),
        chunk(finish_reason="stop"),
    ]
    stream = stream_of([*chunks, {**HEAD, "choices": [], "usage": usage}], stream_options={"include_usage": True})
    for event in data_of(stream):
        assert event["object"] == "text_completion"
    at = data.draw(st.integers(0, len(stream)))
    parser, source, assembler = SseParser(), COMPLETIONS.source(), StreamAssembler()
    for event in [*parser.feed(stream[:at]), *parser.feed(stream[at:])]:
        for made in source.add_event(event):
            assembler.add(made)
    answer = assembler.answer()
    assert source.is_done
    assert answer.message is not None
    assert (answer.message["content"], answer.finish_reason, answer.usage) == ("".join(pieces), "stop", usage)


def test_usage_is_for_whoever_asked() -> None:
    chunks = [
        chunk(content="hi", role="assistant"),
        chunk(finish_reason="stop"),
        {**HEAD, "choices": [], "usage": {"total_tokens": 3}},
    ]
    assert "usage" not in json.dumps(data_of(stream_of(chunks)))
    assert data_of(stream_of(chunks, stream_options={"include_usage": True}))[-1]["usage"] == {"total_tokens": 3}


def test_each_of_several_answers_keeps_its_number() -> None:
    chunks = [chunk(0, content="a"), chunk(1, content="b"), chunk(1, "stop"), chunk(0, "stop")]
    choices = [event["choices"][0] for event in data_of(stream_of(chunks))]
    assert [(choice["index"], choice["text"], choice["finish_reason"]) for choice in choices] == [
        (0, "a", None), (1, "b", None), (1, "", "stop"), (0, "", "stop"),
    ]  # fmt: skip


def test_an_error_is_an_event_both_ways() -> None:
    raw = COMPLETIONS.sink({}).fail({"error": {"message": "broke"}})
    source = COMPLETIONS.source()
    [event] = SseParser().feed(raw)
    assert source.add_event(event) == []
    assert source.error == {"message": "broke"}
    assert not source.is_done
