"""Clients that speak Anthropic's messages, before a model that speaks chat and before one that speaks as they do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic

from metaclaw.chat.anthropic.own_thinking import SIGNATURE
from tests.chat.anthropic_material import FUNCTION, PIXEL, TOOL, assistant, call, image, result, text, use, user
from tests.fakes import anthropic_llm
from tests.fakes.llm import Answer, FakeLlm, fake_llm
from tests.gateway.running import TOKEN, RunningGateway, make_settings, read_turns, running_gateway

pytestmark = pytest.mark.anyio

HELLO = [user("hello")]
CHAT, MESSAGES = ("openai.chat",), ("anthropic.messages", "anthropic.count_tokens")
Json = dict[str, Any]


@asynccontextmanager
async def before(
    tmp_path: Path, dialects: tuple[str, ...], script: Any = None, **sections: Any
) -> AsyncGenerator[tuple[FakeLlm, RunningGateway, AsyncAnthropic]]:
    """A gateway before a fake model of these dialects, and Anthropic's own client of it."""
    llm = {"dialects": dialects, "max_attempts": 1, "auth_method": "x-api-key" if dialects == MESSAGES else "bearer"}
    llm |= {"api_key": "upstream-key", **sections.pop("llm", {})}
    async with (
        fake_llm(script, api_key="upstream-key") as model,
        running_gateway(make_settings(tmp_path, llm_url=model.url, llm=llm, **sections)) as gateway,
        AsyncAnthropic(base_url=gateway.url, api_key=TOKEN, max_retries=0) as client,
    ):
        yield model, gateway, client


@pytest.mark.parametrize("dialects", [CHAT, MESSAGES])
async def test_a_plain_answer_reaches_the_client_and_the_journal(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    async with before(tmp_path, dialects) as (_, gateway, client):
        answer = await client.messages.create(model="any", max_tokens=9, messages=HELLO)
        [turn] = await gateway.turns()
    assert [block.to_dict() for block in answer.content] == [text("Hello from the fake model.")]
    assert (answer.stop_reason, answer.usage.input_tokens, answer.usage.output_tokens) == ("end_turn", 7, 3)
    assert (turn.state, turn.model, turn.finish_reason) == ("done", "any", "stop")
    assert turn.answer == assistant("Hello from the fake model.")
    assert turn.usage is not None
    assert turn.usage["total_tokens"] == 10


@pytest.mark.parametrize("dialects", [CHAT, MESSAGES])
async def test_a_streamed_answer_reaches_the_client_and_the_journal(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    async with before(tmp_path, dialects) as (_, gateway, client):
        async with client.messages.stream(model="any", max_tokens=9, messages=HELLO) as stream:
            words = [word async for word in stream.text_stream]
            answer = await stream.get_final_message()
        [turn] = await gateway.turns()
    assert words == ["Hello ", "from ", "the ", "fake ", "model."]
    assert (answer.stop_reason, answer.usage.input_tokens, answer.usage.output_tokens) == ("end_turn", 7, 3)
    assert (turn.state, turn.finish_reason) == ("done", "stop")
    assert turn.answer == assistant("Hello from the fake model.")


@pytest.mark.parametrize("dialects", [CHAT, MESSAGES])
async def test_a_word_is_passed_on_before_the_next_one_is_said(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    """PITFALLS P1: the answer came in one piece once it was complete."""
    held = 2 if dialects == CHAT else 4
    async with (
        before(tmp_path, dialects, lambda _: Answer(hold_after=held)) as (model, _, client),
        client.messages.stream(model="any", max_tokens=9, messages=HELLO) as stream,
    ):
        words = stream.text_stream
        assert await anext(words) == "Hello "
        model.go_on.set()
        assert [word async for word in words][-1] == "model."


LOOP = [
    user([text("look", cache_control={"type": "ephemeral"})]),
    assistant([{"type": "thinking", "thinking": "hm", "signature": "c2ln"}, text("Let me"), use("t1"), use("t2", a=1)]),
    user([result("t1", "x.txt"), result("t2", "no such file", is_error=True), text("go on"), image()]),
]


async def test_what_the_model_can_read_itself_is_passed_on_untouched(tmp_path: Path) -> None:
    beta = {"context_management": {"edits": []}, "unheard_of": {"x": 1}}
    tools: list[Any] = [TOOL, {"type": "web_search_20250305", "name": "web_search"}]
    async with before(tmp_path, MESSAGES) as (model, _, client):
        await client.messages.create(
            model="any",
            max_tokens=2000,
            messages=LOOP,
            system=[text("x-anthropic-billing-header: cch=1;"), text("be brief", cache_control={"type": "ephemeral"})],
            thinking={"type": "enabled", "budget_tokens": 1024},
            tools=tools,
            extra_body=beta,
            extra_query={"beta": "true"},
            extra_headers={"anthropic-beta": "context-management-2025-06-27"},
        )
    [sent] = model.requests
    assert sent["messages"] == LOOP
    assert [block["text"] for block in sent["system"]] == ["x-anthropic-billing-header: cch=1;", "be brief"]
    assert sent["tools"] == tools
    assert {key: sent[key] for key in beta} == beta
    headers = {name.lower(): value for name, value in model.headers[0].items()}
    assert headers["anthropic-beta"] == "context-management-2025-06-27"
    assert (headers["x-api-key"], "authorization" in headers) == ("upstream-key", False)
    assert headers["anthropic-version"]


async def test_a_tool_loop_reaches_a_chat_model_as_chat(tmp_path: Path) -> None:
    async with before(tmp_path, CHAT) as (model, _, client):
        await client.messages.create(
            model="any",
            max_tokens=2000,
            messages=LOOP,
            system="be brief",
            tools=[TOOL],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
            extra_query={"beta": "true"},
        )
    [sent] = model.requests
    assert sent == {
        "model": "any",
        "max_tokens": 2000,
        "tools": [FUNCTION],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "messages": [
            {"role": "system", "content": "be brief"},
            user("look"),
            {
                "role": "assistant",
                "content": "Let me",
                "reasoning_content": "hm",
                "tool_calls": [call("t1"), call("t2", '{"a": 1}')],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "x.txt"},
            {"role": "tool", "tool_call_id": "t2", "content": "Error: no such file"},
            user([text("go on"), {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]),
        ],
    }


THOUGHT_AND_CALLS = [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}, text("Let me"), use("t1", a="b")]


def calls_a_tool(dialect: tuple[str, ...], *, is_stream: bool) -> Answer:
    if dialect == MESSAGES:
        return Answer(message={"content": THOUGHT_AND_CALLS, "stop_reason": "tool_use"})
    message = {"content": "Let me", "reasoning_content": "hm", "tool_calls": [call("t1", '{"a": "b"}')]}
    if not is_stream:
        return Answer(message=message, finish_reason="tool_calls")
    deltas = [
        {"reasoning_content": "hm"},
        {"content": "Let me"},
        {"tool_calls": [{"index": 0, **call("t1", "")}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ' "b"}'}}]},
    ]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    return Answer(events=(*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}))


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("dialects", [CHAT, MESSAGES])
async def test_thinking_and_calls_reach_the_client(tmp_path: Path, dialects: tuple[str, ...], is_stream: bool) -> None:
    async with before(tmp_path, dialects, lambda _: calls_a_tool(dialects, is_stream=is_stream)) as (
        _,
        gateway,
        client,
    ):
        if is_stream:
            async with client.messages.stream(model="any", max_tokens=9, messages=HELLO, tools=[TOOL]) as stream:
                message = await stream.get_final_message()
        else:
            message = await client.messages.create(model="any", max_tokens=9, messages=HELLO, tools=[TOOL])
        [turn] = await gateway.turns()
    signature = "c2ln" if dialects == MESSAGES else SIGNATURE
    assert [block.to_dict() for block in message.content] == [
        {**THOUGHT_AND_CALLS[0], "signature": signature}, *THOUGHT_AND_CALLS[1:],
    ]  # fmt: skip
    assert message.stop_reason == "tool_use"
    assert turn.answer is not None
    assert turn.answer["tool_calls"] == [call("t1", '{"a": "b"}')]
    assert (turn.answer["content"], turn.answer["reasoning_content"]) == ("Let me", "hm")
    assert turn.finish_reason == "tool_calls"


@pytest.mark.parametrize("is_stream", [False, True])
async def test_thinking_that_nobody_signed_is_not_shown_to_a_model_that_checks_signatures(
    tmp_path: Path, is_stream: bool
) -> None:
    """A session goes on with Anthropic's, for example because the policy is down."""
    signed = {"type": "thinking", "thinking": "so", "signature": "c2ln"}
    asked: Any = {"model": "any", "max_tokens": 9, "messages": HELLO}
    async with (
        before(tmp_path, CHAT, lambda body: calls_a_tool(CHAT, is_stream=bool(body.get("stream")))) as (
            chats,
            gateway,
            client,
        ),
        fake_llm() as claude,
    ):
        if is_stream:
            async with client.messages.stream(**asked) as stream:
                answer = await stream.get_final_message()
        else:
            answer = await client.messages.create(**asked)
        said = [block.to_dict() for block in answer.content]
        history = [*HELLO, assistant(said), user([result("t1", "x")])]
        await client.messages.create(**{**asked, "messages": history})
        assert chats.requests[-1]["messages"][1]["reasoning_content"] == "hm"

        moved = make_settings(tmp_path, llm_url=claude.url, llm={"dialects": ["anthropic.messages"]})
        await gateway.adopt(moved)
        history += [assistant([signed, text("so it is")]), user("and?")]
        await client.messages.create(**{**asked, "messages": history})
    kept = claude.requests[0]["messages"]
    assert kept[1] == assistant(said[1:])
    assert kept[2:] == history[2:]


async def test_ids_that_another_model_gave_are_claudes_where_it_takes_over(tmp_path: Path) -> None:
    """Kimi's have colons, and Claude refuses such a history for as long as the session lasts."""
    uid = "functions.ls:0"
    history = [*HELLO, assistant([use(uid)]), user([result(uid, "a.txt")])]
    async with before(tmp_path, MESSAGES) as (model, _, client):
        for name in ("claude-opus-5", "kimi-k3"):
            await client.messages.create(model=name, max_tokens=9, messages=history)
    claudes, its_own = (request["messages"] for request in model.requests)
    assert claudes == [*HELLO, assistant([use("functions_ls_0")]), user([result("functions_ls_0", "a.txt")])]
    assert its_own == history


async def test_a_history_of_calls_that_is_compacted_without_tools_reaches_claude(tmp_path: Path) -> None:
    """Bedrock: "Requests which include `tool_use` or `tool_result` blocks must define tools"."""
    calls = {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b")]}
    results = [{"role": "tool", "tool_call_id": uid, "content": "x"} for uid in "ab"]
    async with before(tmp_path, MESSAGES) as (model, gateway, _):
        for messages in ([*HELLO, calls, *results, *HELLO], HELLO):
            async with gateway.post({"model": "claude-opus-5", "messages": messages}) as response:
                assert response.status == 200
    with_calls, without = model.requests
    assert with_calls["tools"] == [{"name": "ls", "input_schema": {"type": "object"}}]
    assert with_calls["tool_choice"] == {"type": "none"}
    assert {"tools", "tool_choice"}.isdisjoint(without)


async def test_a_think_block_in_the_text_is_thinking(tmp_path: Path) -> None:
    async with before(tmp_path, CHAT, lambda _: Answer(text="<think> hm, well </think> yes it is")) as (_, __, client):
        plain = await client.messages.create(model="any", max_tokens=9, messages=HELLO)
        async with client.messages.stream(model="any", max_tokens=9, messages=HELLO) as stream:
            streamed = await stream.get_final_message()
    expected = [{"type": "thinking", "thinking": "hm, well", "signature": SIGNATURE}, text("yes it is")]
    assert [block.to_dict() for block in plain.content] == expected
    assert [block.to_dict() for block in streamed.content] == expected


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "overloaded_error"),
        (503, anthropic.InternalServerError, "overloaded_error"),
        (529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("dialects", [CHAT, MESSAGES])
async def test_a_models_refusal_has_anthropics_shape(
    tmp_path: Path, dialects: tuple[str, ...], status: int, told: type[anthropic.APIStatusError], kind: str
) -> None:
    async with before(tmp_path, dialects, lambda _: Answer(status=status)) as (_, gateway, client):
        with pytest.raises(told) as refusal:
            await client.messages.create(model="any", max_tokens=9, messages=HELLO)
        [turn] = await gateway.turns()
    assert refusal.value.status_code == (529 if status >= 500 else status)
    assert isinstance(refusal.value.body, dict)
    assert refusal.value.body["type"] == "error"
    assert refusal.value.body["error"]["type"] == kind
    assert turn.state == "failed"


@pytest.mark.parametrize(
    ("change", "status", "kind", "words"),
    [
        ({"messages": []}, 400, "invalid_request_error", "'messages' must be a list"),
        ({"messages": [user(1)]}, 400, "invalid_request_error", "messages[0].content"),
        ({"container": "c"}, 400, "invalid_request_error", "container: this parameter cannot be said"),
        ({"tools": [{"type": "web_search_20250305"}]}, 400, "invalid_request_error", "tools[0].type"),
    ],
)
async def test_what_cannot_be_said_is_refused_in_anthropics_shape(
    tmp_path: Path, change: Json, status: int, kind: str, words: str
) -> None:
    async with before(tmp_path, CHAT) as (model, gateway, _):
        body = {"model": "any", "max_tokens": 9, "messages": HELLO, **change}
        async with gateway.post(body, "/v1/messages?beta=true") as answer:
            assert answer.status == status
            error = (await answer.json())["error"]
    assert (error["type"], words in error["message"]) == (kind, True), error
    assert model.requests == []


async def test_every_error_of_a_messages_path_has_anthropics_shape(tmp_path: Path) -> None:
    async with before(tmp_path, CHAT, proxy={"max_body_bytes": 1000}) as (_, gateway, __):
        seen = []
        for path, body, headers in (
            ("/v1/messages", {}, {"Authorization": "Bearer wrong"}),
            ("/agents/ops/v1/messages", {"x": "y" * 2000}, {}),
            ("/v1/messages/nothing", {}, {}),
            ("/v1/messages", b"{", {}),
        ):
            async with gateway.post(body, path, **headers) as answer:
                seen.append((answer.status, (await answer.json())["error"]["type"]))
        async with gateway.http.get(f"{gateway.url}/v1/messages") as answer:
            seen.append((answer.status, (await answer.json())["error"]["type"]))
        async with gateway.post({}, "/v1/chat/completions") as answer:
            assert "code" in (await answer.json())["error"]
    assert seen == [
        (401, "authentication_error"),
        (413, "request_too_large"),
        (404, "not_found_error"),
        (400, "invalid_request_error"),
        (405, "invalid_request_error"),
    ]


async def _collect(words: AsyncIterator[str], said: list[str]) -> None:
    async for word in words:
        said.append(word)


@pytest.mark.parametrize("dialects", [CHAT, MESSAGES])
async def test_an_answer_that_breaks_off_ends_with_an_error_event(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    async with before(tmp_path, dialects, lambda _: Answer(break_after=6)) as (_, gateway, client):
        said: list[str] = []
        async with client.messages.stream(model="any", max_tokens=9, messages=HELLO) as stream:
            with pytest.raises(anthropic.APIStatusError, match=r"broke off|ended in the middle"):
                await _collect(stream.text_stream, said)
        [turn] = await gateway.turns()
    assert said
    assert said[0] == "Hello "
    assert turn.state == "failed"
    assert turn.answer is not None
    assert turn.answer["content"] == "".join(said)


async def test_an_error_event_of_the_model_reaches_the_client(tmp_path: Path) -> None:
    error = {"type": "overloaded_error", "message": "too much to do"}
    begun = anthropic_llm.stream(anthropic_llm.message({}, "Hello there", "stop", None))[:4]
    script = lambda _: Answer(events=(*begun, anthropic_llm.event("error", error=error)))  # noqa: E731
    async with before(tmp_path, MESSAGES, script) as (_, gateway, client):
        with pytest.raises(anthropic.APIStatusError, match="too much to do"):
            async with client.messages.stream(model="any", max_tokens=9, messages=HELLO) as stream:
                await stream.until_done()
        [turn] = await gateway.turns()
    assert turn.state == "failed"
    assert "too much to do" in (turn.error or "")


@pytest.mark.parametrize("dialects", [CHAT, MESSAGES])
async def test_a_client_that_leaves_leaves_the_model(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    async with before(tmp_path, dialects, lambda _: Answer(hold_after=4)) as (model, _, client):
        async with client.messages.stream(model="any", max_tokens=9, messages=HELLO) as stream:
            assert await anext(stream.text_stream) == "Hello "
        await model.was_left.wait()
    [turn] = await asyncio.to_thread(read_turns, tmp_path)
    assert turn.state == "cut"
    assert turn.answer is not None
    assert turn.answer["content"].startswith("Hello")


async def test_a_chat_client_is_answered_by_an_anthropic_model(tmp_path: Path) -> None:
    script = lambda body: calls_a_tool(MESSAGES, is_stream=bool(body.get("stream")))  # noqa: E731
    messages: list[Any] = [{"role": "system", "content": "be brief"}, user("look")]
    async with before(tmp_path, MESSAGES, script) as (model, gateway, _):
        chat = gateway.client.chat.completions
        plain = await chat.create(model="any", messages=messages, tools=[FUNCTION])  # pyright: ignore
        async with chat.stream(model="any", messages=messages, tools=[FUNCTION]) as stream:  # pyright: ignore
            streamed = await stream.get_final_completion()
    for answer in (plain, streamed):
        [choice] = answer.choices
        assert (choice.message.content, choice.finish_reason) == ("Let me", "tool_calls")
        assert choice.message.tool_calls is not None
        assert choice.message.tool_calls[0].to_dict()["function"]["arguments"] == '{"a": "b"}'
        assert (choice.message.model_extra or {})["reasoning_content"] == "hm"
        assert (choice.message.model_extra or {})["thinking_blocks"] == [{**THOUGHT_AND_CALLS[0], "index": 0}]
    mark = {"cache_control": {"type": "ephemeral"}}  # such clients know a cache that works by itself
    assert model.requests[0] == {
        "model": "any", "max_tokens": 8192, "system": [text("be brief", **mark)], "tools": [TOOL],
        "messages": [user([text("look", **mark)])],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "marked"),
    [
        ([user("one")], []),  # nobody would read what was written
        ([user("one"), assistant("1"), user("two")], [2]),
        ([user("one"), {**assistant(None), "tool_calls": [call("t")]}, {"role": "tool", "tool_call_id": "t"}], [2]),
        ([user("one"), assistant("prefilled")], []),
    ],
)
async def test_a_conversation_that_goes_on_is_marked_for_the_cache(
    tmp_path: Path, messages: list[Any], marked: list[int]
) -> None:
    async with before(tmp_path, MESSAGES) as (model, gateway, _):
        await gateway.client.chat.completions.create(model="any", messages=messages)
    sent = model.requests[0]["messages"]
    assert [place for place, message in enumerate(sent) if "cache_control" in json.dumps(message)] == marked


@pytest.mark.parametrize(
    ("model", "thinking"),
    [("claude-sonnet-4-5", {"type": "enabled", "budget_tokens": 4096}), ("claude-opus-4-8", {"type": "adaptive"})],
)
async def test_an_effort_reaches_each_of_claudes_models_as_it_knows_it(
    tmp_path: Path, model: str, thinking: dict[str, Any]
) -> None:
    async with before(tmp_path, MESSAGES) as (claude, gateway, _):
        asked: Any = {"model": model, "messages": [user("hi")], "reasoning_effort": "high"}
        await gateway.client.chat.completions.create(**asked)
    assert claude.requests[0]["thinking"] == thinking


async def test_recalled_text_stands_after_the_humans_words(tmp_path: Path) -> None:
    skill = tmp_path / "skills" / "git-bisect" / "SKILL.md"
    skill.parent.mkdir(parents=True)
    skill.write_text("---\nname: git-bisect\ndescription: Find the commit that broke it\n---\nUse git bisect.\n")
    words = user([text("which commit broke it? use git bisect", cache_control={"type": "ephemeral"})])
    settings = {"skills": {"dir": str(tmp_path / "skills")}}
    async with before(tmp_path, MESSAGES, **settings) as (model, _, client):
        await client.messages.create(model="any", max_tokens=9, messages=[words])
    [message] = model.requests[0]["messages"]
    assert message["content"][0] == words["content"][0]
    assert "Use git bisect." in message["content"][1]["text"]
    assert len(message["content"]) == 2
    assert json.dumps(words["content"][0], separators=(",", ":")).encode() in model.raw_requests[0]


async def test_tokens_are_counted_by_the_model_where_it_counts(tmp_path: Path) -> None:
    async with before(tmp_path, MESSAGES, llm={"model_id": "claude"}) as (model, gateway, client):
        count = await client.messages.count_tokens(model="metaclaw", messages=LOOP, tools=[TOOL])
        raw = await client.messages.with_raw_response.count_tokens(model="any", messages=HELLO)
        turns = await gateway.turns()
    assert count.input_tokens == 321
    assert "x-metaclaw-token-count" not in raw.headers
    assert model.token_counts[0] == {"model": "claude", "messages": LOOP, "tools": [TOOL]}
    assert (model.token_counts[1]["model"], model.requests, turns) == ("any", [], [])


async def test_tokens_are_estimated_where_nobody_counts_and_the_answer_says_so(tmp_path: Path) -> None:
    async with before(tmp_path, CHAT) as (model, gateway, client):
        raw = await client.messages.with_raw_response.count_tokens(model="any", messages=LOOP, tools=[TOOL])
        async with gateway.post({"messages": HELLO}, "/agents/ops/v1/messages/count_tokens?beta=true") as short:
            num_short = (await short.json())["input_tokens"]
        async with gateway.post({"messages": []}, "/v1/messages/count_tokens") as refused:
            assert (refused.status, (await refused.json())["error"]["type"]) == (400, "invalid_request_error")
    assert raw.headers["x-metaclaw-token-count"] == "estimate"
    assert (await raw.parse()).input_tokens > 1600 > 20 > num_short > 0
    assert model.token_counts == []


async def test_a_failure_to_count_has_anthropics_shape(tmp_path: Path) -> None:
    async with before(tmp_path, MESSAGES, llm={"api_key": "wrong"}) as (_, __, client):
        with pytest.raises(anthropic.InternalServerError) as failure:
            await client.messages.count_tokens(model="any", messages=HELLO)
    assert isinstance(failure.value.body, dict)
    assert failure.value.body["error"]["type"] == "overloaded_error", "never 401, on which clients lock themselves out"


@pytest.mark.parametrize("dialects", [CHAT, MESSAGES])
async def test_models_are_listed_in_the_shape_of_who_asks(tmp_path: Path, dialects: tuple[str, ...]) -> None:
    async with before(tmp_path, dialects, llm={"model_id": "m"}) as (_, gateway, client):
        assert [model.id async for model in client.models.list()] == ["metaclaw", "fake-base"]
        assert [model.id async for model in gateway.client.models.list()] == ["metaclaw", "fake-base"]
        assert (await client.models.retrieve("fake-base")).type == "model"
        assert (await gateway.client.models.retrieve("metaclaw")).object == "model"
        with pytest.raises(openai.NotFoundError, match="no model of the name 'org/none'"):
            await gateway.client.models.retrieve("org/none")
        with pytest.raises(anthropic.NotFoundError) as failure:
            await client.models.retrieve("org/none")
        assert isinstance(failure.value.body, dict)
        assert failure.value.body["type"] == "error"


async def test_a_gateway_behind_the_gateway_is_listed_once(tmp_path: Path) -> None:
    async with before(tmp_path, CHAT, llm={"model_id": "m"}) as (model, gateway, _):
        model.models.append("metaclaw")
        assert [it.id async for it in gateway.client.models.list()] == ["metaclaw", "fake-base"]
