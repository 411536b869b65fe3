"""One whole answer of any model, in chat, whatever it speaks and whatever parameters it refuses."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from metaclaw.errors import ConfigError, UpstreamError
from metaclaw.upstreams.asked_models import AskedModel, open_chat_model
from metaclaw.upstreams.chat_model import ChatModel
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.session import new_session
from metaclaw.upstreams.upstream import Timeouts, Upstream
from tests.fakes.bedrock import fake_bedrock
from tests.fakes.llm import Answer, fake_llm

pytestmark = pytest.mark.anyio

KEY = "sk-our-own-secret"
MESSAGES: list[dict[str, Any]] = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "hello"}]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def asked(url: str, *dialects: str, is_strict: bool = False) -> AsyncGenerator[ChatModel]:
    upstream = Upstream(
        name="the judge",
        base_url=url,
        api_key=SecretStr(KEY),
        key_setting="rl.judge.api_key",
        timeouts=Timeouts(),
        dialects=dialects or ("openai.chat",),
        is_strict=is_strict,
    )
    async with new_session() as session:
        yield ChatModel(HttpModel(session, upstream))


def refusing(*names: str, ends_with: str = "Score: 1"):
    """A model that knows some parameters no more, as OpenAI's that reason do."""

    def script(body: dict[str, Any]) -> Answer:
        for name in names:
            if name in body:
                text = f"Unsupported parameter: '{name}' is not supported with this model."
                error = f'{{"error": {{"message": "{text}", "param": "{name}", "code": "unsupported_parameter"}}}}'
                return Answer(status=400, body=error.encode())
        return Answer(text=ends_with)

    return script


async def test_an_answer_comes_with_its_text_and_sends_only_what_was_asked() -> None:
    async with fake_llm() as llm, asked(llm.url) as model:
        answer = await model.answer(MESSAGES, model="judge", max_tokens=9)
    assert (answer.message or {})["content"] == "Hello from the fake model."
    assert llm.requests == [{"model": "judge", "messages": MESSAGES, "max_tokens": 9}]
    assert llm.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_a_model_that_reasons_is_asked_without_what_it_refuses_and_not_twice() -> None:
    """PITFALLS B5-5, R9: `gpt-5.2` takes neither `max_tokens` nor a temperature, and every vote of it failed."""
    async with fake_llm(refusing("max_tokens", "temperature")) as llm, asked(llm.url) as model:
        for _ in range(2):
            answer = await model.answer(MESSAGES, model="gpt-5.2", temperature=0.6, max_tokens=99)
            assert (answer.message or {})["content"] == "Score: 1"
    assert len(llm.requests) == 4
    assert llm.requests[-1] == {"model": "gpt-5.2", "messages": MESSAGES, "max_completion_tokens": 99}


async def test_what_did_not_help_is_not_done_to_the_next_request() -> None:
    is_moody = [True]

    def script(body: dict[str, Any]) -> Answer:
        return refusing("messages")(body) if is_moody else refusing("max_completion_tokens")(body)

    async with fake_llm(script) as llm, asked(llm.url) as model:
        with pytest.raises(UpstreamError, match="'messages' is not supported"):
            await model.answer(MESSAGES, model="m", max_tokens=9)
        is_moody.clear()
        await model.answer(MESSAGES, model="m", max_tokens=9)
    assert llm.requests[-1]["max_tokens"] == 9


async def test_one_that_speaks_messages_is_asked_in_messages_and_understood() -> None:
    async with fake_llm() as llm, asked(llm.url, "anthropic.messages") as model:
        answer = await model.answer(MESSAGES, model="claude-x", temperature=1.5, max_tokens=9)
    assert (answer.message or {})["content"] == "Hello from the fake model."
    assert answer.usage is not None
    [sent] = llm.requests  # 1.5 is more than it has, so it was not sent; nothing was asked in vain
    assert (sent["system"], sent["max_tokens"], "temperature" in sent) == ("Judge.", 9, False)
    assert llm.headers[0]["x-api-key"] == KEY


async def test_thinking_is_no_part_of_the_answer() -> None:
    async with fake_llm(lambda _: Answer(text="<think>Score: -1?</think>Score: 1")) as llm, asked(llm.url) as model:
        answer = await model.answer(MESSAGES, model="qwen3")
    assert (answer.message or {})["content"] == "Score: 1"


@pytest.mark.parametrize("body", [b"[]", b"{", b"{}", b'{"choices": []}'])
async def test_it_never_makes_an_answer_of_something_else(body: bytes) -> None:
    async with fake_llm(lambda _: Answer(body=body)) as llm, asked(llm.url) as model:
        with pytest.raises(UpstreamError):
            await model.answer(MESSAGES, model="judge")


async def test_an_answer_ends_at_its_limit() -> None:
    async with fake_llm(lambda _: Answer(hold_after=0)) as llm, asked(llm.url) as model:
        with pytest.raises(UpstreamError, match="longer than"):
            await model.answer(MESSAGES, model="judge", timeout_s=0.2)


async def test_a_judge_that_never_stops_talking_is_no_outage_and_takes_no_more_than_it_may() -> None:
    whole = b'{"choices": [{"message": {"role": "assistant", "content": "' + b"x" * (10 << 20) + b'"}}]}'
    async with fake_llm(lambda _: Answer(body=whole)) as llm, asked(llm.url) as model:
        answer = await model.answer(MESSAGES, model="judge")
        assert len((answer.message or {})["content"]) == 10 << 20
    async with fake_llm(lambda _: Answer(body=b"x" * (17 << 20))) as llm, asked(llm.url) as model:
        with pytest.raises(UpstreamError, match="more than 16 MB") as refused:
            await model.answer(MESSAGES, model="judge")
        assert refused.value.status == 422, "it counts as an attempt"


def settings(**more: Any) -> AskedModel:
    values = {"name": "the judge", "section": "rl.judge.", "url": "", "api_key": SecretStr(KEY), "timeout_s": 5.0}
    return AskedModel(**(values | more))


async def test_bedrock_judges_with_the_credentials_of_its_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC A3: `prm_provider` and `evolver_provider` may be `bedrock`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTESTS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-tests")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    async with fake_bedrock() as service, new_session() as session:
        model = open_chat_model(settings(provider="bedrock", bedrock_region="eu-west-1", url=service.url), session)
        answer = await model.answer(MESSAGES, model="us.anthropic.claude-x-v1:0", temperature=0.6, max_tokens=9)
        assert (answer.message or {})["content"] == "Hello"
    [(path, sent, headers)] = service.requests
    assert path == "/model/us.anthropic.claude-x-v1:0/invoke"
    assert (sent["system"], sent["max_tokens"]) == ("Judge.", 9)
    assert "eu-west-1/bedrock" in headers["Authorization"]
    assert KEY not in str(headers)


async def test_a_provider_is_enough_and_one_that_nobody_knows_is_named() -> None:
    async with new_session() as session:
        assert open_chat_model(settings(provider="anthropic"), session).name == "the judge"
        with pytest.raises(ConfigError, match=r"rl\.judge\.url is empty, and rl\.judge\.provider 'acme' is no preset"):
            open_chat_model(settings(provider="acme"), session)
