"""Models that answer otherwise than they were asked, before the SDK that asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from metaclaw.gateway.passages import Unchanged
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import make_settings, running_gateway

pytestmark = pytest.mark.anyio

HELLO: Any = [{"role": "user", "content": "hello"}]
CALLS = [
    {"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}},
    {"id": "b", "type": "function", "function": {"name": "look", "arguments": "{}"}},
]
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chunk(index: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "any", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def whole(**message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop", "logprobs": None}
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "any", "system_fingerprint": "fp"}
    return json.dumps({**head, "choices": [choice], "usage": USAGE}).encode()


def always(answer: Answer) -> Callable[[Any], Answer]:
    return lambda _: answer


@pytest.mark.parametrize("dialect", ["anthropic.messages", "openai.responses"])
async def test_a_stream_tells_its_usage_to_those_alone_that_ask(tmp_path: Path, dialect: str) -> None:
    """A chunk without choices breaks every program that reads ``choices[0]``."""
    async with fake_llm() as llm:
        settings = make_settings(tmp_path, llm={"api_base": llm.url, "dialects": [dialect]})
        async with running_gateway(settings) as gateway:
            chat = gateway.client.chat.completions
            silent = [it async for it in await chat.create(model="any", messages=HELLO, stream=True)]
            asked: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
            telling = [it async for it in await chat.create(model="any", messages=HELLO, **asked)]
            turns = await gateway.turns()
    assert all(len(it.choices) == 1 for it in silent)
    assert telling[-1].usage is not None
    assert telling[-1].usage.total_tokens == 10
    assert all(turn.usage for turn in turns), "recorded all the same"


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_error_that_calls_itself_an_answer_is_an_error(tmp_path: Path, is_stream: bool) -> None:
    error = {"message": "Provider returned error", "code": 429, "metadata": {"provider_name": "x"}}
    answer = Answer(body=json.dumps({"error": error, "user_id": "u"}).encode())
    async with fake_llm(always(answer)) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        with pytest.raises(openai.RateLimitError, match="fake answered 429: Provider returned error") as caught:
            await gateway.client.chat.completions.create(model="any", messages=HELLO, stream=is_stream)
        [turn] = await gateway.turns()
    assert caught.value.response.headers["Retry-After"] == "5"
    assert (turn.state, turn.status) == ("failed", 429)


@pytest.mark.parametrize("status", [200, 400, 429])
@pytest.mark.parametrize(
    "error",
    [
        b'{"message": "half \\ud83d", "code": "\\ud800"}',
        b'{"message": "no", "code": 1e999}',
        b'{"message": "no", "code": []}',
    ],
)
async def test_an_error_that_is_hard_to_write_reaches_the_client(tmp_path: Path, error: bytes, status: int) -> None:
    answer = Answer(body=b'{"error": ' + error + b"}", status=status)
    async with fake_llm(always(answer)) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        async with gateway.post({"model": "any", "messages": HELLO}) as response:
            assert response.status == {200: 503}.get(status, status)
            assert (await response.json())["error"]["message"].startswith("fake ")
        [turn] = await gateway.turns()
        assert gateway.recorder.num_open == 0
    assert (turn.state, turn.status) == ("failed", response.status)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("odd", [{"message": {"content": "yes", "tool_calls": 5}}, {"finish_reason": []}], ids=str)
async def test_an_odd_answer_costs_nobody_the_next_turn(tmp_path: Path, path: str, odd: dict[str, Any]) -> None:
    """Who comes next without a session is looked for among those who were given it."""
    call = {"id": "c", "type": "function", "function": {"name": "ls", "arguments": "{}"}}
    message = {"role": "assistant", "content": "yes", "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **odd}
    llm_says = Answer(body=json.dumps({"id": "c", "object": "chat.completion", "choices": [choice]}).encode())
    said = [*HELLO, {"role": "assistant", "content": "yes"}, *HELLO]
    async with fake_llm(always(llm_says)) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for history in (HELLO, said):
            body = {"input": history} if path == "/v1/responses" else {"messages": history, "max_tokens": 9}
            async with gateway.post({"model": "any", **body}, path) as response:
                assert response.status == 200, await response.text()
        assert [turn.state for turn in await gateway.turns()] == ["done", "done"]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_time_without_end_is_none(tmp_path: Path, path: str, is_stream: bool) -> None:
    """The stream ended without a word, and its turn never."""
    answer = Answer(message={"created_at": float("inf")})
    async with fake_llm(always(answer)) as llm:
        model = {"api_base": llm.url, "dialects": ["openai.responses"]}
        async with running_gateway(make_settings(tmp_path, llm=model)) as gateway:
            asked = {"input": HELLO} if path == "/v1/responses" else {"messages": HELLO, "max_tokens": 9}
            async with gateway.post({"model": "any", "stream": is_stream, **asked}, path) as response:
                assert (response.status, b"Hello" in await response.read()) == (200, True)
            [turn] = await gateway.turns()
            assert gateway.recorder.num_open == 0
    assert turn.state == "done"


@pytest.mark.parametrize("broken", ["feed", "outcome"])
async def test_a_bug_in_what_reads_a_stream_ends_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def raising(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Unchanged, broken, raising)
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        async with gateway.post({"model": "any", "messages": HELLO, "stream": True}) as response:
            with pytest.raises(aiohttp.ClientError):
                await response.read()
        [turn] = await gateway.turns()
        assert gateway.recorder.num_open == 0
    assert (turn.state, turn.error) == (
        "failed",
        "the gateway could not go on with the answer; its log has the details",
    )


async def test_a_wait_without_end_is_told_in_days_and_the_turn_is_over(tmp_path: Path) -> None:
    answer = Answer(status=429, headers={"Retry-After": "9" * 400})
    async with fake_llm(always(answer)) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        async with gateway.post({"model": "any", "messages": HELLO}) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, str(7 * 86_400))
        [turn] = await gateway.turns()
        assert gateway.recorder.num_open == 0
    assert turn.state == "failed"


async def test_a_model_that_does_not_stream_is_streamed_to_who_asked_for_it(tmp_path: Path) -> None:
    answer = Answer(body=whole(content="Hello.", reasoning_content="hm", tool_calls=CALLS))
    async with fake_llm(always(answer)) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        async with gateway.client.chat.completions.stream(model="any", messages=HELLO) as stream:
            got = await stream.get_final_completion()
        [turn] = await gateway.turns()
    [choice] = got.choices
    assert (choice.message.content, got.system_fingerprint, got.usage) == ("Hello.", "fp", None)
    called = [call.to_dict()["function"] for call in choice.message.tool_calls or ()]
    assert [(it["name"], it["arguments"]) for it in called] == [("look", '{"at": 1}'), ("look", "{}")]
    assert (choice.message.model_extra or {})["reasoning_content"] == "hm"
    assert (turn.state, turn.usage) == ("done", USAGE)


async def test_a_model_that_streams_all_the_same_is_put_together(tmp_path: Path) -> None:
    said = [chunk(n, {"role": "assistant", "content": text}) for text in ("Hel", "lo") for n in (0, 1)]
    events = b"".join([*said, chunk(1, {}, "length"), chunk(0, {}, "stop"), b"data: [DONE]\n\n"])
    answer = Answer(body=events, content_type="text/event-stream")
    async with fake_llm(always(answer)) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        got = await gateway.client.chat.completions.create(model="any", messages=HELLO, n=2)
    assert [(it.index, it.message.content, it.finish_reason) for it in got.choices] == [
        (0, "Hello", "stop"),
        (1, "Hello", "length"),
    ]


@pytest.mark.parametrize("named", ["text/plain", "Text/Event-Stream"])
async def test_a_stream_under_another_name_is_passed_on_as_it_comes(tmp_path: Path, named: str) -> None:
    async with (
        fake_llm(always(Answer(hold_after=2, stream_type=named))) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
    ):
        stream = await gateway.client.chat.completions.create(model="any", messages=HELLO, stream=True)
        first = [await anext(stream), await anext(stream)]
        assert llm.num_finished == 0
        llm.go_on.set()
        rest = [it async for it in stream]
        [turn] = await gateway.turns()
    assert "".join(it.choices[0].delta.content or "" for it in first + rest) == "Hello from the fake model."
    assert turn.state == "done"


@pytest.mark.parametrize(
    ("listed", "status"),
    [
        (b'{"data": [{"id": "half \\ud83d"}]}', 200),
        (b'{"data": [{"id": "m", "created": 1e999, "pricing": NaN}]}', 200),
        (b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 503),
        (b"", 503),
    ],
)
async def test_an_odd_list_of_models_is_no_error_of_ours(tmp_path: Path, listed: bytes, status: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(listed)

    async def list_models(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + listed)
        writer.close()

    async with await asyncio.start_server(list_models, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with (
            running_gateway(make_settings(tmp_path, llm_url=url)) as gateway,
            gateway.http.get(f"{gateway.url}/v1/models", headers=gateway.headers) as response,
        ):
            assert response.status == status
            assert "data" in (told := await response.json()) or "error" in told


@pytest.mark.parametrize("dialect", ["chat", "completions"])
async def test_a_stream_of_two_answers_of_which_one_has_ended_is_not_complete(tmp_path: Path, dialect: str) -> None:
    def piece(index: int, reason: str | None = None) -> bytes:
        if dialect == "chat":
            return chunk(index, {"content": "a"}, reason)
        choice = {"index": index, "text": "a", "finish_reason": reason}
        return b"data: " + json.dumps({"id": "c", "object": "text_completion", "choices": [choice]}).encode() + b"\n\n"

    pieces = [piece(0), piece(1), piece(0, "stop")]
    cut = Answer(events=tuple(pieces), ends_with_done=False)
    complete = Answer(events=(*pieces, piece(1, "stop")), ends_with_done=False)
    body: dict[str, Any] = {"model": "any", "n": 2, "stream": True}
    asked, path = (
        ({**body, "messages": HELLO}, "/v1/chat/completions")
        if dialect == "chat"
        else ({**body, "prompt": "a"}, "/v1/completions")
    )
    async with fake_llm(always(cut)) as llm:
        model = {"api_base": llm.url, "dialects": ["openai.chat", "openai.completions"]}
        async with running_gateway(make_settings(tmp_path, llm=model)) as gateway:
            async with gateway.post(asked, path) as response:
                assert b"ended in the middle" in await response.read()
            llm.script = always(complete)
            async with gateway.post(asked, path) as response:
                assert b"error" not in await response.read()
            turns = await gateway.turns()
    assert [turn.state for turn in turns] == ["failed", "done"]
