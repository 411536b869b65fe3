"""Bedrock through AWS's own SDK, against an endpoint on this machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from metaclaw.config import Settings
from metaclaw.errors import InvalidRequestError, UpstreamError
from metaclaw.upstreams.bedrock import BedrockModel, BedrockSettings
from metaclaw.upstreams.configured import open_pool
from metaclaw.upstreams.pool import Outbound
from metaclaw.upstreams.session import new_session
from metaclaw.upstreams.upstream import Timeouts
from tests.fakes.bedrock import EVENTS, FakeBedrock, fake_bedrock

pytestmark = pytest.mark.anyio

MODEL = "us.anthropic.claude-x-v1:0"
BODY = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}], "unknown": {"kept": 1}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAOFTESTS",
        "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def bedrock(**timeouts: float) -> AsyncGenerator[tuple[BedrockModel, FakeBedrock]]:
    async with fake_bedrock() as service:
        settings = BedrockSettings(
            name="bedrock",
            region="eu-west-1",
            endpoint=service.url,
            model_id="",
            timeouts=Timeouts(**{"first_byte_s": 30.0, "gap_s": 30.0, **timeouts}),
        )
        model = BedrockModel(settings)
        yield model, service
        await model.close()


def body(**more: object) -> bytes:
    return json.dumps({**BODY, **more}).encode()


async def test_a_body_goes_as_it_came_but_for_what_stands_elsewhere_there() -> None:
    async with bedrock() as (model, service):
        reply = await model.send("anthropic.messages", body(), headers={"anthropic-beta": "b"})
        assert json.loads(await reply.read())["content"] == [{"type": "text", "text": "Hello"}]
        assert reply.content_type == "application/json"
        reply.close()
    [(path, sent, headers)] = service.requests
    assert path == f"/model/{MODEL}/invoke"
    assert sent == {
        "anthropic_version": "bedrock-2023-05-31",
        **{key: value for key, value in BODY.items() if key != "model"},
    }
    assert "eu-west-1/bedrock" in headers["Authorization"]


async def test_a_stream_is_the_models_own_events() -> None:
    async with bedrock() as (model, service):
        service.hold_after = 2
        reply = await model.send("anthropic.messages", body(stream=True))
        assert reply.content_type == "text/event-stream"
        chunks = reply.chunks()
        first = [await anext(chunks), await anext(chunks)]
        service.go_on.set()
        events = [*first, *[chunk async for chunk in chunks]]
        reply.close()
    assert events == [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in EVENTS]
    assert service.requests[0][0] == f"/model/{MODEL}/invoke-with-response-stream"


@pytest.mark.parametrize(
    ("status", "code", "seen", "says"),
    [
        (429, "ThrottlingException", 429, "bedrock answered 429: slowly"),
        (400, "ValidationException", 400, "bedrock answered 400: slowly"),
        (404, "ResourceNotFoundException", 404, "slowly"),
        (424, "ModelErrorException", 502, "slowly"),
        (503, "ServiceUnavailableException", 503, "slowly"),
        (403, "AccessDeniedException", 403, r"refused our credentials \(HTTP 403, AccessDeniedException\)$"),
    ],
)
async def test_a_refusal_has_its_status_and_no_account(status: int, code: str, seen: int, says: str) -> None:
    async with bedrock() as (model, service):
        service.status, service.error, service.retry_after = status, (code, "slowly"), "3"
        with pytest.raises(UpstreamError, match=says) as caught:
            await model.send("anthropic.messages", body())
    assert caught.value.status == seen
    assert caught.value.retry_after_s == (None if status == 403 else 3.0)
    assert len(service.requests) == 1


async def test_what_breaks_inside_a_stream_is_an_upstream_error() -> None:
    for attribute in ("fails_after", "breaks_after"):
        async with bedrock() as (model, service):
            setattr(service, attribute, 1)
            reply = await model.send("anthropic.messages", body(stream=True))
            with pytest.raises(UpstreamError) as caught:
                await reply.read()
            reply.close()
            assert caught.value.status == 502


async def test_silence_has_its_limits() -> None:
    async with bedrock(gap_s=0.3) as (model, service):
        service.hold_after = 1
        reply = await model.send("anthropic.messages", body(stream=True))
        with pytest.raises(UpstreamError, match=r"fell silent for 0\.3 s"):
            await reply.read()
        reply.close()
        await service.was_left.wait()
    async with bedrock(first_byte_s=0.5) as (model, service):
        service.hold_after = 0
        with pytest.raises(UpstreamError, match=r"sent nothing for 0\.5 s"):
            await model.send("anthropic.messages", body(stream=True))
        service.go_on.set()


async def test_a_turn_that_is_left_is_cancelled_there() -> None:
    async with bedrock() as (model, service):
        service.hold_after = 1
        reply = await model.send("anthropic.messages", body(stream=True))
        rest = asyncio.create_task(reply.read())
        await service.is_held.wait()
        rest.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rest
        reply.close()
        await service.was_left.wait()


async def test_without_credentials_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with bedrock() as (model, service):
        with pytest.raises(UpstreamError, match="has no credentials: set AWS_ACCESS_KEY_ID") as caught:
            await model.send("anthropic.messages", body())
    assert caught.value.status == 401
    assert service.requests == []


async def test_what_it_cannot_be_asked_is_refused() -> None:
    async with bedrock() as (model, _):
        with pytest.raises(InvalidRequestError, match=r"anthropic\.messages only"):
            await model.send("openai.chat", body())
        with pytest.raises(InvalidRequestError, match="needs a 'model'"):
            await model.send("anthropic.messages", body(model=""))


async def test_the_provider_bedrock_is_a_member_of_the_pool() -> None:
    async with fake_bedrock() as service, new_session() as session:
        llm = {"provider": "bedrock", "model_id": MODEL, "api_base": service.url, "bedrock_region": "us-west-2"}
        pool = open_pool(Settings.model_validate({"llm": llm}), session)
        assert pool is not None
        sent = await pool.send(lambda client: Outbound(dialect=client.dialects[0], body=body(model=client.model_id)))
        assert json.loads(await sent.reply.read())["id"] == "msg_1"
        assert [state.credential for state in pool.snapshot()] == ["llm.bedrock_region"]
        assert await pool.models() == [{"id": MODEL, "object": "model", "owned_by": "bedrock"}]
        await pool.close()
    assert "us-west-2/bedrock" in service.requests[0][2]["Authorization"]


MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


async def test_a_mark_of_the_whole_request_is_one_of_its_last_block() -> None:
    """Bedrock does not know it there ("Extra inputs are not permitted")."""
    system = [{"type": "text", "text": "You", **MARK}]
    async with bedrock() as (model, service):
        for messages in (BODY["messages"], [{"role": "user", "content": [{"type": "text", "text": "a", **MARK}]}]):
            (await model.send("anthropic.messages", body(**MARK, system=system, messages=messages))).close()
    first, second = (sent for _, sent, _ in service.requests)
    assert "cache_control" not in first.keys() | second.keys()
    assert first["system"] == system
    assert first["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hello", **MARK}]}]
    assert second["messages"] == [{"role": "user", "content": [{"type": "text", "text": "a", **MARK}]}]


@pytest.mark.parametrize(
    ("name", "has_cache"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", False),
        ("us.anthropic.claude-3-5-sonnet-20240620-v1:0", False),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", True),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", True),
        ("arn:aws:bedrock:eu-west-1:1:application-inference-profile/x", True),
    ],
)
async def test_a_model_without_a_cache_is_asked_without_marks(name: str, has_cache: bool) -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a", **MARK}], **MARK}
    use = {"type": "tool_use", "id": "t", "name": "ls", "input": {"cached": [MARK]}}
    marked = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    tools = [{"name": "ls", "input_schema": {"type": "object"}, **MARK}]
    async with bedrock() as (model, service):
        (await model.send("anthropic.messages", body(model=name, messages=marked, tools=tools))).close()
    [(_, sent, _)] = service.requests
    assert sent["messages"][0]["content"] == [use], "what is in a call is the model's own"
    assert ("cache_control" in json.dumps([sent["tools"], sent["messages"][1]])) == has_cache
    assert sent["tools"][0]["input_schema"] == {"type": "object"}
