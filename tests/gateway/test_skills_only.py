"""The gateway before any OpenAI-compatible model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from metaclaw.chat.openai_chat import parse_request
from metaclaw.gateway import proxy
from metaclaw.gateway.answer_stream import CUT
from metaclaw.gateway.app import open_deps
from metaclaw.gateway.identify import Caller
from metaclaw.gateway.proxy import Incoming
from metaclaw.gateway.routing import Router
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import make_settings, read_turns, running_gateway

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello"}]


async def test_a_plain_answer_reaches_the_openai_client_and_the_journal(tmp_path: Path) -> None:
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        answer = await gateway.client.chat.completions.create(model="any", messages=HELLO)
        [turn] = await gateway.turns()
    assert answer.choices[0].message.content == "Hello from the fake model."
    assert (turn.state, turn.upstream, turn.model, turn.finish_reason) == ("done", "fake", "any", "stop")
    assert turn.answer == {"role": "assistant", "content": "Hello from the fake model."}
    assert turn.usage is not None
    assert turn.usage["total_tokens"] == 10


async def test_a_streamed_answer_reaches_the_openai_client_and_the_journal(tmp_path: Path) -> None:
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        stream = await gateway.client.chat.completions.create(
            model="any", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        [turn] = await gateway.turns()
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello from the fake model."
    assert chunks[-1].usage is not None
    assert (turn.state, turn.answer, turn.finish_reason) == ("done", {"role": "assistant", "content": text}, "stop")
    assert turn.first_byte_at is not None


async def test_the_first_chunk_is_passed_on_before_the_model_has_finished(tmp_path: Path) -> None:
    """PITFALLS P1: the answer came in one piece once it was complete."""
    async with (
        fake_llm(lambda _: Answer(hold_after=2)) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
    ):
        stream = await gateway.client.chat.completions.create(model="any", messages=HELLO, stream=True)
        first = [await anext(stream), await anext(stream)]
        assert llm.num_finished == 0
        llm.go_on.set()
        rest = [chunk async for chunk in stream]
    assert [chunk.choices[0].delta.content for chunk in first] == ["", "Hello "]
    assert len(rest) == 5


async def test_what_a_client_sends_and_gets_survives_untouched(tmp_path: Path) -> None:
    """PITFALLS P3: further choices, images and unknown keys were lost."""
    body = {
        "model": "any",
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "see \ud83d\ude00"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
        ]}],
        "n": 2, "logprobs": True, "top_p": 0.3, "x_vendor": {"deep": [1, 2.5, None]},
    }  # fmt: skip
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        raw = json.dumps(body, indent=1).encode()
        async with gateway.post(raw) as response:
            answer = await response.json()
    assert llm.raw_requests == [raw]
    assert len(answer["choices"]) == 2


async def test_parallel_tool_calls_arrive_as_they_were_sent(tmp_path: Path) -> None:
    """PITFALLS, run under faults: two calls were merged for want of an index."""
    deltas = [
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "look", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "look", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"at": 1}'}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": '{"at": 2}'}}]},
    ]
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "any"}
    events = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    async with (
        fake_llm(lambda _: Answer(events=tuple(events))) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
    ):
        async with gateway.client.chat.completions.stream(model="any", messages=HELLO) as stream:
            final = await stream.get_final_completion()
        [turn] = await gateway.turns()
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert [(call.id, call.function.arguments) for call in calls] == [("a", '{"at": 1}'), ("b", '{"at": 2}')]
    assert turn.answer is not None
    assert [call["id"] for call in turn.answer["tool_calls"]] == ["a", "b"]


async def test_a_client_that_leaves_cancels_the_model_and_leaves_a_cut_turn(tmp_path: Path) -> None:
    """PITFALLS, run under faults: the client disconnects and the upstream runs on."""
    async with fake_llm(lambda _: Answer(hold_after=2)) as llm:
        async with running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
            stream = await gateway.client.chat.completions.create(model="any", messages=HELLO, stream=True)
            await anext(stream)
            await anext(stream)
            await stream.close()
            await llm.was_left.wait()
        [turn] = await gateway.turns()
    assert (turn.state, turn.answer) == ("cut", {"role": "assistant", "content": "Hello "})


async def test_a_client_that_leaves_before_a_plain_answer_cancels_the_model(tmp_path: Path) -> None:
    async with fake_llm(lambda _: Answer(hold_after=0)) as llm:
        async with running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
            with pytest.raises(openai.APITimeoutError):
                await gateway.client.with_options(timeout=0.3).chat.completions.create(model="any", messages=HELLO)
            await llm.was_left.wait()
        [turn] = await gateway.turns()
    assert (turn.state, turn.answer) == ("cut", None)


@pytest.mark.parametrize("answer", [Answer(break_after=2), Answer(events=(b"data: {}\n\n",), ends_with_done=False)])
async def test_a_model_that_breaks_off_is_an_error_inside_the_stream(tmp_path: Path, answer: Answer) -> None:
    async with fake_llm(lambda _: answer) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        stream = await gateway.client.chat.completions.create(model="any", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match=r"ended in the middle|broke off"):
            _ = [chunk async for chunk in stream]
        [turn] = await gateway.turns()
    assert turn.state == "failed"
    assert turn.answer == ({"role": "assistant", "content": "Hello "} if answer.break_after else None)


async def test_an_error_of_the_model_keeps_its_status_its_code_and_its_wish_to_be_left_alone(tmp_path: Path) -> None:
    """PITFALLS, run under faults: 500 and 503 became 502, Retry-After and the code were lost."""
    error = {"error": {"message": "too many", "type": "rate_limit_error", "code": "slow_down", "param": None}}
    script = Answer(status=429, body=json.dumps(error).encode(), headers={"Retry-After": "7"})
    async with fake_llm(lambda _: script) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        with pytest.raises(openai.RateLimitError) as caught:
            await gateway.client.chat.completions.create(model="any", messages=HELLO)
        [turn] = await gateway.turns()
    assert caught.value.code == "slow_down"
    assert caught.value.response.headers["retry-after"] == "7"
    assert (turn.state, turn.status) == ("failed", 429)


async def test_a_refused_key_is_never_401_to_the_client_and_is_never_shown(tmp_path: Path) -> None:
    settings = {"api_key": "sk-secret-of-ours"}
    async with (
        fake_llm(api_key="another") as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url, llm=settings)) as gateway,
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            await gateway.client.chat.completions.create(model="any", messages=HELLO)
    assert caught.value.status_code == 503
    assert "llm.api_key" in caught.value.message
    assert "sk-secret" not in caught.value.message


async def test_a_model_that_is_not_there_is_503_in_openai_shape(tmp_path: Path) -> None:
    async with (
        running_gateway(make_settings(tmp_path, llm_url="http://127.0.0.1:9/v1", llm={"max_attempts": 1})) as gateway,
        gateway.post({"model": "any", "messages": HELLO}) as response,
    ):
        assert response.status == 503
        assert response.headers["Retry-After"]
        assert "cannot be reached" in (await response.json())["error"]["message"]
        assert response.headers["X-MetaClaw-Turn"] == (await gateway.turns())[0].id


@pytest.mark.parametrize("body", [b'{"choices": [', b"<html>"])
async def test_an_answer_that_is_no_json_is_an_error(tmp_path: Path, body: bytes) -> None:
    async with (
        fake_llm(lambda _: Answer(body=body)) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
    ):
        async with gateway.post({"model": "any", "messages": HELLO}) as response:
            assert response.status == 503
        assert (await gateway.turns())[0].state == "failed"


async def test_our_own_model_name_stands_for_the_configured_one(tmp_path: Path) -> None:
    async with fake_llm() as llm:
        settings = make_settings(tmp_path, llm_url=llm.url, llm={"model_id": "big-model"})
        async with running_gateway(settings) as gateway:
            for model in ("metaclaw", "", "their-own"):
                await gateway.client.chat.completions.create(model=model, messages=HELLO)
            listed = await gateway.client.models.list()
    assert [request["model"] for request in llm.requests] == ["big-model", "big-model", "their-own"]
    assert [model.id for model in listed.data] == ["metaclaw", "fake-base"]


async def test_connections_to_the_model_are_kept_open(tmp_path: Path) -> None:
    """PITFALLS P4: a new client, and a TLS handshake, for each request."""
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for _ in range(5):
            await gateway.client.chat.completions.create(model="any", messages=HELLO)
            stream = await gateway.client.chat.completions.create(model="any", messages=HELLO, stream=True)
            _ = [chunk async for chunk in stream]
    assert len(llm.requests) == 10
    assert len(llm.peers) == 1


async def test_the_end_of_a_stream_is_seen_whatever_comes_with_it(tmp_path: Path) -> None:
    """A keep-alive after ``[DONE]`` in one chunk hid the end, and a client that left then had a cut turn."""
    said = {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]}
    answer = Answer(events=(said, b"data: [DONE]\n\n: ping\n\n", b": ping\n\n"), hold_after=2)
    async with (
        fake_llm(lambda _: answer) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
        gateway.post({"messages": HELLO, "stream": True}) as response,
    ):
        while b"[DONE]" not in (await response.content.readany()):
            pass
        [turn] = await gateway.turns()
    assert (turn.state, turn.answer) == ("done", {"role": "assistant", "content": "hi"})


class Known:
    """A sender whom nobody has to look for."""

    agent = "main"

    def caller(self) -> Caller:
        return Caller(agent="main", session="s", kind="main")


async def test_a_handler_that_is_cancelled_while_it_waits_leaves_no_open_turn(tmp_path: Path) -> None:
    request = parse_request({"messages": HELLO})

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()  # the client stays
        return {}

    incoming = Incoming(
        turn_id="turn-1",
        request=request,
        raw=json.dumps(request.body).encode(),
        sender=Known(),
        headers={},
        errors="openai",
        receive=receive,
    )
    async with (
        fake_llm(lambda _: Answer(hold_after=0)) as llm,
        open_deps(make_settings(tmp_path, llm_url=llm.url, skills={"enabled": False})) as deps,
    ):
        responding = asyncio.create_task(deps.proxy.respond(incoming))
        await llm.is_held.wait()
        responding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await responding
    [turn] = await asyncio.to_thread(read_turns, tmp_path)
    assert (turn.id, turn.state) == ("turn-1", "cut")
    assert turn.error == CUT


async def test_a_bug_of_ours_is_a_failed_turn_not_a_client_that_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Router, "send", broken)
    async with running_gateway(make_settings(tmp_path, llm_url="http://127.0.0.1:9/v1")) as gateway:
        async with gateway.post({"messages": HELLO}) as response:
            assert response.status == 500
        [turn] = await gateway.turns()
    assert (turn.state, turn.error) == ("failed", "ZeroDivisionError in the gateway; its log has the details")


async def test_a_turn_is_recorded_with_its_times_its_tokens_and_its_cost(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("known: {input: 1.0, output: 2.0}")
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for model in ("known", "unknown"):
            async with gateway.post({"model": model, "messages": HELLO, "n": 2}) as response:
                assert response.status == 200
        known, unknown = await gateway.turns()
    assert (known.prompt_tokens, known.completion_tokens) == (7, 3)
    assert known.cost_usd == pytest.approx(13e-6)
    assert known.price == {"model": "known", "input": 1.0, "output": 2.0}
    assert (unknown.cost_usd, unknown.price) == (None, None)
    assert len(known.other_answers) == 1
    for turn in (known, unknown):
        assert turn.received_at is not None
        assert turn.first_byte_at is not None
        assert turn.closed_at is not None
        assert turn.received_at <= turn.opened_at <= turn.first_byte_at <= turn.closed_at
        assert min(turn.recall_s or 0, turn.queue_s or 0, turn.wait_s or 0) >= 0


async def test_a_refusal_that_cannot_be_written_leaves_no_open_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(proxy, "error_answer", broken)
    answer = Answer(status=422)
    async with fake_llm(lambda _: answer) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        async with gateway.post({"messages": HELLO}) as response:
            assert response.status == 500
        assert gateway.recorder.num_open == 0
        [turn] = await gateway.turns()
    assert turn.state == "failed"
