"""Models of Anthropic's messages and of responses that stream when they were not to, or do not when they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.fakes import anthropic_llm, openai_llm
from tests.fakes.llm import Answer, fake_llm
from tests.gateway import openai_dialects
from tests.gateway.running import make_settings, running_gateway
from tests.gateway.test_anthropic import MESSAGES, before

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
HELLO: Any = [{"role": "user", "content": "hello"}]
USAGE = {"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 2}
CONTENT = [
    {"type": "thinking", "thinking": "hm", "signature": "signed"},
    {"type": "redacted_thinking", "data": "sealed"},
    {"type": "text", "text": "Hello.", "citations": None},
    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": [1, "ü"]}},
]
MESSAGE = anthropic_llm.message({"model": "m"}, "", "tool_calls", {"content": CONTENT, "usage": USAGE})
CALL = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at": 1}'}
REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "hm"}],
    "encrypted_content": "sealed",
}
RESPONSE = openai_llm.response({"model": "m"}, "Hello.", "stop", None)
RESPONSE = {**RESPONSE, "output": [REASONING, *RESPONSE["output"], {**CALL, "status": "completed"}]}


def plain(body: Json) -> Any:
    return lambda _: Answer(body=json.dumps(body).encode())


def streamed(events: list[Json | bytes]) -> Any:
    return lambda _: Answer(
        body=b"".join(it for it in events if isinstance(it, bytes)), content_type="text/event-stream"
    )


def events_of(chunks: list[Json]) -> list[Json | bytes]:
    return [*(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"]


def known(answer: Any, like: Json) -> Json:
    """What an SDK understood, as far as ``like`` says it."""
    return {key: value for key, value in answer.to_dict().items() if key in like}


async def test_a_whole_message_is_streamed_to_who_asked_for_it(tmp_path: Path) -> None:
    async with before(tmp_path, MESSAGES, plain(MESSAGE)) as (_, gateway, client):
        async with client.messages.stream(model="m", max_tokens=9, messages=HELLO) as stream:
            kinds = [event.type async for event in stream]
            got = await stream.get_final_message()
        [turn] = await gateway.turns()
    assert known(got, MESSAGE) == MESSAGE
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert turn.state == "done"
    assert turn.answer is not None
    assert turn.answer["content"] == "Hello."
    assert turn.usage is not None
    assert turn.usage["completion_tokens"] == 3


async def test_a_whole_response_is_streamed_to_who_asked_for_it(tmp_path: Path) -> None:
    async with openai_dialects.before(tmp_path, openai_dialects.RESPONSES, plain(RESPONSE)) as (_, gateway):
        async with gateway.client.responses.stream(model="m", input="hello") as stream:
            kinds = [event.type async for event in stream]
            got = await stream.get_final_response()
        [turn] = await gateway.turns()
    thought, said, call = got.to_dict()["output"]
    assert (thought, said["content"][0]["text"], call["arguments"]) == (REASONING, "Hello.", CALL["arguments"])
    assert got.usage is not None
    assert got.usage.total_tokens == 10
    assert "response.function_call_arguments.delta" in kinds
    assert (turn.state, turn.finish_reason) == ("done", "tool_calls")


async def test_a_whole_completion_is_streamed_to_who_asked_for_it(tmp_path: Path) -> None:
    whole = plain(openai_llm.completion({"prompt": "x", "model": "m"}, "Hello.", "stop"))
    async with openai_dialects.before(tmp_path, openai_dialects.COMPLETIONS, whole) as (_, gateway):
        stream = await gateway.client.completions.create(model="m", prompt="x", stream=True)
        assert [it.choices[0].text async for it in stream] == ["Hello."]
        [turn] = await gateway.turns()
    assert turn.state == "done"


async def test_a_message_that_is_streamed_unasked_is_put_together(tmp_path: Path) -> None:
    async with before(tmp_path, MESSAGES, streamed(anthropic_llm.stream(MESSAGE))) as (_, gateway, client):
        got = await client.messages.create(model="m", max_tokens=9, messages=HELLO)
        [turn] = await gateway.turns()
    assert known(got, MESSAGE) == MESSAGE
    assert (turn.state, turn.answer and turn.answer["content"]) == ("done", "Hello.")


async def test_a_response_that_is_streamed_unasked_is_put_together(tmp_path: Path) -> None:
    events = openai_llm.response_events(RESPONSE)
    async with openai_dialects.before(tmp_path, openai_dialects.RESPONSES, streamed(events)) as (_, gateway):
        got = await gateway.client.responses.create(model="m", input="hello")
        [turn] = await gateway.turns()
    assert [item.to_dict() for item in got.output] == RESPONSE["output"]
    assert (got.output_text, turn.state) == ("Hello.", "done")


async def test_a_completion_that_is_streamed_unasked_is_put_together(tmp_path: Path) -> None:
    chunks = [it for it in openai_llm.completion_chunks({"model": "m"}, "Hello there.", "stop") if isinstance(it, dict)]
    logprobs = [
        {"tokens": ["Hello "], "token_logprobs": [-0.5], "top_logprobs": [{"Hello ": -0.5}], "text_offset": [0]},
        {"tokens": ["there."], "token_logprobs": [-0.25], "top_logprobs": [{"there.": -0.25}], "text_offset": [6]},
    ]
    for chunk, told in zip(chunks[:2], logprobs, strict=True):
        chunk["choices"][0]["logprobs"] = told
    last = {**chunks[-1], "choices": [], "usage": openai_llm.USAGE, "own": {"a": 1}}
    answer = streamed(events_of([*chunks, last]))
    async with openai_dialects.before(tmp_path, openai_dialects.COMPLETIONS, answer) as (_, gateway):
        got = await gateway.client.completions.create(model="m", prompt="x", logprobs=1)
        [turn] = await gateway.turns()
    assert (got.choices[0].text, got.choices[0].finish_reason) == ("Hello there.", "stop")
    assert got.choices[0].logprobs is not None
    assert got.choices[0].logprobs.to_dict() == {name: logprobs[0][name] + logprobs[1][name] for name in logprobs[0]}
    assert known(got, last) == {**last, "choices": got.to_dict()["choices"]}
    assert (turn.state, turn.answer and turn.answer["content"]) == ("done", "Hello there.")


async def test_log_probs_of_chat_that_is_streamed_unasked_are_put_together(tmp_path: Path) -> None:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    told: list[Json] = [
        {"token": word, "logprob": -0.5, "bytes": None, "top_logprobs": []} for word in ("So ", "be it")
    ]
    said: list[Json] = [
        {"delta": {"content": one["token"]}, "logprobs": {"content": [one], "refusal": None}} for one in told
    ]
    said.append({"delta": {}, "logprobs": None, "finish_reason": "stop"})
    answer = streamed(events_of([{**head, "choices": [{"index": 0, **choice}]} for choice in said]))
    async with (
        fake_llm(answer) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
        gateway.post({"messages": HELLO, "logprobs": True}) as response,
    ):
        [choice] = (await response.json())["choices"]
    assert (choice["message"]["content"], choice["logprobs"]) == ("So be it", {"content": told, "refusal": None})


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_error_of_a_model_of_messages_is_an_error(tmp_path: Path, is_stream: bool) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "too much to do"}}
    wanted: Any = {"model": "m", "max_tokens": 9, "messages": HELLO, "stream": is_stream}
    for status, kind in ((200, anthropic.APIStatusError), (400, anthropic.BadRequestError)):
        refuses = lambda _, status=status: Answer(body=json.dumps(error).encode(), status=status)  # noqa: E731
        async with before(tmp_path / str(status), MESSAGES, refuses) as (_, gateway, client):
            with pytest.raises(kind, match="too much to do") as caught:
                await client.messages.create(**wanted)
            [turn] = await gateway.turns()
        assert caught.value.status_code == (529 if status == 200 else 400)
        assert (turn.state, turn.status) == ("failed", caught.value.status_code)


async def test_a_response_that_failed_is_an_error_to_who_asked_for_a_stream(tmp_path: Path) -> None:
    failed = {**RESPONSE, "status": "failed", "output": [], "error": {"code": "server_error", "message": "broke down"}}
    async with openai_dialects.before(tmp_path, openai_dialects.RESPONSES, plain(failed)) as (_, gateway):
        with pytest.raises(openai.InternalServerError, match="broke down"):
            await gateway.client.responses.create(model="m", input="hello", stream=True)
        got = await gateway.client.responses.create(model="m", input="hello")
    assert got.status == "failed", "as the model said it to who did not"


async def test_a_stream_unasked_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    half = anthropic_llm.stream(MESSAGE)[:-2]
    async with before(tmp_path, MESSAGES, streamed(half)) as (_, gateway, client):
        with pytest.raises(anthropic.APIStatusError) as caught:
            await client.messages.create(model="m", max_tokens=9, messages=HELLO)
        [turn] = await gateway.turns()
    assert (caught.value.status_code, turn.state) == (529, "failed")


async def test_a_stream_unasked_that_tells_an_error_is_one(tmp_path: Path) -> None:
    told = [*anthropic_llm.stream(MESSAGE)[:3], anthropic_llm.event("error", error={"type": "x", "message": "gave up"})]
    async with before(tmp_path, MESSAGES, streamed(told)) as (_, _gateway, client):
        with pytest.raises(anthropic.APIStatusError, match="gave up"):
            await client.messages.create(model="m", max_tokens=9, messages=HELLO)


async def test_what_is_no_answer_goes_to_the_client_as_it_came(tmp_path: Path) -> None:
    async with before(tmp_path, MESSAGES, plain({"of": "tomorrow"})) as (_, gateway, _client):
        wanted = {"model": "m", "max_tokens": 9, "messages": HELLO, "stream": True}
        async with gateway.post(wanted, "/v1/messages") as answer:
            assert (answer.status, await answer.json()) == (200, {"of": "tomorrow"})
