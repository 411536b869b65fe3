"""Who is calling, through the real gateway: tokens and limits, what is said to us in a body, sessions by content."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from metaclaw.gateway.access import new_token
from metaclaw.http.auth import digest
from metaclaw.journal.access_store import AccessStore, Limits
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
HELLO: Json = {"role": "user", "content": "hello"}


def make_token(home: Path, agent: str | None = None, **limits: Any) -> str:
    secret, store = new_token(), AccessStore.open(home / "access.db")
    store.create("anna", digest=digest(secret), agent=agent, limits=Limits(**limits), now=1.0)
    store.close()
    return secret


async def ask(gateway: RunningGateway, *messages: Json, path: str = "/v1/chat/completions", **headers: str) -> Any:
    async with gateway.post({"messages": list(messages) or [HELLO]}, path, **headers) as response:
        return response.status, await response.json(), response.headers


async def test_a_token_of_an_agent_is_that_agent_on_every_route(tmp_path: Path) -> None:
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        secret = await asyncio.to_thread(make_token, tmp_path, "ops")
        for mine in ({"Authorization": f"Bearer {secret}"}, {"Authorization": "", "X-API-Key": secret}):
            assert (await ask(gateway, **mine))[0] == 200
            assert (await ask(gateway, path="/agents/ops/v1/chat/completions", **mine))[0] == 200
            status, body, _ = await ask(gateway, path="/agents/other/v1/chat/completions", **mine)
            assert (status, body["error"]["code"]) == (403, "forbidden")
            assert (await ask(gateway, **mine, **{"X-Agent-Id": "other"}))[0] == 403
            for path, status in (("/v1/models", 200), ("/agents/other/v1/models", 403)):
                async with gateway.http.get(gateway.url + path, headers=mine) as response:
                    assert response.status == status
        assert {turn.agent for turn in await gateway.turns()} == {"ops"}


async def test_a_flood_of_requests_meets_429_and_the_model_sees_no_more_than_the_limit(tmp_path: Path) -> None:
    limits = {"requests_per_minute": 5}
    async with fake_llm() as llm:
        settings = make_settings(tmp_path, llm_url=llm.url, proxy={"limits": limits})
        async with running_gateway(settings) as gateway:
            answers = await asyncio.gather(*(ask(gateway) for _ in range(40)))
            secret = await asyncio.to_thread(make_token, tmp_path)
            assert (await ask(gateway, Authorization=f"Bearer {secret}"))[0] == 200, "others are not concerned"
    refused = [(body["error"], headers) for status, body, headers in answers if status == 429]
    assert (len(refused), len(llm.requests)) == (35, 6)
    for error, headers in refused:
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert 1 <= int(headers["Retry-After"]) <= 60


async def test_whoever_leaves_or_fails_gives_its_place_back(tmp_path: Path) -> None:
    async with fake_llm(lambda _: Answer(hold_after=2)) as llm:
        settings = make_settings(tmp_path, llm_url=llm.url, proxy={"limits": {"max_concurrent": 1}})
        async with running_gateway(settings) as gateway:
            for _ in range(3):
                llm.is_held.clear()
                response = await gateway.post({"messages": [HELLO], "stream": True})
                assert response.status == 200
                await llm.is_held.wait()
                assert (await ask(gateway))[0] == 429
                llm.was_left.clear()
                response.close()
                await llm.was_left.wait()
                async with asyncio.timeout(30):
                    while (await gateway.turns())[-1].state == "open":  # noqa: ASYNC110 - it is in the journal
                        await asyncio.sleep(0.01)
            llm.script = lambda _: Answer(status=422)
            assert [(await ask(gateway))[0] for _ in range(2)] == [422, 422]
            async with gateway.post({"messages": [HELLO]}, **{"X-Session-Id": "a b"}) as response:
                assert response.status == 400
            assert (await ask(gateway))[0] == 422


async def test_what_answers_take_is_charged_once_recorded_and_a_restart_forgets_nothing(
    tmp_path: Path,
) -> None:
    secret = await asyncio.to_thread(make_token, tmp_path, tokens_per_day=15)
    mine = {"Authorization": f"Bearer {secret}"}
    async with fake_llm() as llm:
        settings = make_settings(tmp_path, llm_url=llm.url)
        async with running_gateway(settings) as gateway:
            assert (await ask(gateway, **mine))[0] == 200  # of 10 tokens
        async with running_gateway(settings) as gateway:
            assert (await ask(gateway, **mine))[0] == 200
            await gateway.turns()
            status, body, headers = await ask(gateway, **mine)
            assert (status, body["error"]["code"]) == (429, "insufficient_quota")
            assert int(headers["Retry-After"]) > 0
            assert (await ask(gateway))[0] == 200, "the owner has no limit"


async def test_a_stream_whose_model_does_not_say_what_it_took_is_charged_all_the_same(tmp_path: Path) -> None:
    """OpenAI's clients must ask to be told, and few do: their streams would be free."""
    secret = await asyncio.to_thread(make_token, tmp_path, tokens_per_day=100)
    mine = {"Authorization": f"Bearer {secret}"}
    question: Json = {"role": "user", "content": "word " * 100}
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        async with gateway.post({"messages": [question], "stream": True}, **mine) as response:
            assert (response.status, b"[DONE]" in await response.read()) == (200, True)
        [turn] = await gateway.turns()
        assert turn.prompt_tokens is None, "what is not known is not written down as if it were"
        status, body, _ = await ask(gateway, **mine)
    assert (status, body["error"]["code"]) == (429, "insufficient_quota")


async def test_a_budget_of_money_that_is_used_up_is_said_in_each_dialect_as_its_sdk_knows_it(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("'*': {input: 1000, output: 1000}\n")
    secret = await asyncio.to_thread(make_token, tmp_path, usd_per_month=0.001)
    async with (
        fake_llm() as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
        AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=secret, max_retries=0) as ours,
        AsyncAnthropic(base_url=gateway.url, api_key=secret, max_retries=0) as theirs,
    ):
        await ours.chat.completions.create(model="m", messages=[HELLO])  # pyright: ignore[reportArgumentType]
        await gateway.turns()
        with pytest.raises(openai.RateLimitError, match="US dollars a month") as refused:
            await ours.responses.create(model="m", input="hello")
        assert (refused.value.code, refused.value.type) == ("insufficient_quota", "rate_limit_error")
        with pytest.raises(anthropic.RateLimitError, match="US dollars a month") as refused_too:
            await theirs.messages.create(model="m", max_tokens=5, messages=[HELLO])  # pyright: ignore[reportArgumentType]
        said = refused_too.value.response.json()
        assert (said["type"], said["error"]["type"]) == ("error", "rate_limit_error")
        for error in (refused.value, refused_too.value):
            assert int(error.response.headers["Retry-After"]) > 0


async def test_what_a_body_says_to_us_does_not_reach_the_model(tmp_path: Path) -> None:
    body = {"messages": [HELLO], "session_id": "s", "turn_type": "side", "session_done": True, "memory_scope": "m",
            "user_id": "u", "workspace_id": "w", "unknown": [1]}  # fmt: skip
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        async with gateway.post(body) as response:
            assert response.status == 200
            assert response.headers["X-MetaClaw-Session"] == "s"
        [turn] = await gateway.turns()
    assert (turn.session, turn.kind) == ("s", "side")
    assert llm.requests == [{"messages": [HELLO], "unknown": [1]}]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_conversations_without_a_name_stay_apart_through_a_restart(tmp_path: Path, is_stream: bool) -> None:
    answers = iter(["Hi Anna", "Hi Bert", "a", "b", "c", "d"])
    async with fake_llm(lambda _: Answer(text=next(answers))) as llm:
        settings = make_settings(tmp_path, llm_url=llm.url)

        async def session(gateway: RunningGateway, *messages: Json) -> str:
            async with gateway.post({"messages": list(messages), "stream": is_stream}) as response:
                assert response.status == 200
                await response.read()
                return response.headers["X-MetaClaw-Session"]

        histories = [
            (HELLO, {"role": "assistant", "content": f"Hi {name}"}, {"role": "user", "content": "and now?"})
            for name in ("Anna", "Bert")
        ]
        async with running_gateway(settings) as gateway:
            anna, bert = await session(gateway, HELLO), await session(gateway, HELLO)
            assert anna != bert
            assert await session(gateway, *histories[1]) == bert
        async with running_gateway(settings) as gateway:
            assert await session(gateway, *histories[0]) == anna
            told = {"role": "assistant", "content": "a"}
            assert await session(gateway, *histories[1], told, {"role": "user", "content": "more"}) == bert
            assert [turn.session for turn in await gateway.turns()] == [anna, bert, bert, anna, bert]


async def test_a_body_that_does_not_come_is_408_and_closes_the_connection(tmp_path: Path) -> None:
    async def slowly() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    settings = make_settings(tmp_path, llm_url="http://127.0.0.1:9/v1", proxy={"body_timeout_s": 0.05})
    async with (
        running_gateway(settings) as gateway,
        gateway.http.post(
            f"{gateway.url}/v1/chat/completions", data=slowly(), headers={"Authorization": "Bearer gateway-token"}
        ) as response,
    ):
        assert response.status == 408
        assert response.headers["Connection"] == "close"
        assert (await response.json())["error"]["code"] == "request_timeout"


async def test_counting_tokens_is_held_to_the_limits_as_turns_are(tmp_path: Path) -> None:
    body: Json = {"model": "any", "max_tokens": 5, "messages": [HELLO]}
    async with fake_llm() as llm:
        model = {"api_base": llm.url, "dialects": ["anthropic.messages", "anthropic.count_tokens"]}
        settings = make_settings(tmp_path, llm=model, proxy={"limits": {"requests_per_minute": 3, "max_concurrent": 1}})
        async with running_gateway(settings) as gateway:
            statuses: list[int] = []
            for _ in range(4):
                async with gateway.post(body, "/v1/messages/count_tokens") as response:
                    statuses.append(response.status)
            assert statuses == [200, 200, 200, 429]
            assert (await ask(gateway))[0] == 429
    assert (len(llm.token_counts), len(llm.requests)) == (3, 0)


async def test_a_request_whose_body_still_comes_has_its_place_already_and_gives_it_back(tmp_path: Path) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncGenerator[bytes]:
        yield b'{"messages": '
        began.set()
        await go_on.wait()
        yield b"nothing}"

    async with fake_llm() as llm:
        settings = make_settings(tmp_path, llm_url=llm.url, proxy={"limits": {"max_concurrent": 1}})
        async with running_gateway(settings) as gateway:
            url, headers = f"{gateway.url}/v1/chat/completions", gateway.headers
            sending = asyncio.ensure_future(gateway.http.post(url, data=slowly(), headers=headers))
            await began.wait()
            async with asyncio.timeout(30):
                while (await ask(gateway))[0] != 429:  # noqa: ASYNC110 - it is the gateway's own count
                    await asyncio.sleep(0.01)
            go_on.set()
            async with await sending as response:
                assert response.status == 400
            assert (await ask(gateway))[0] == 200
