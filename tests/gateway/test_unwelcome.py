"""Models that refuse an effort, or thinking in a history, before clients that send both with each request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.llm import Answer, fake_llm
from tests.gateway.openai_dialects import before, said_in
from tests.gateway.running import make_settings, running_gateway

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
HELLO = [{"role": "user", "content": "hello"}]
CLAUDE_CODES: Json = {"model": "small", "max_tokens": 9, "messages": HELLO, "output_config": {"effort": "xhigh"}}
CODEXS: Json = {"model": "small", "input": "hello", "reasoning": {"effort": "high"}}
OLLAMAS = {"message": '"small" does not support thinking', "type": "invalid_request_error"}
GROQS = {"message": "`reasoning_effort` is not supported with this model", "param": "reasoning_effort"}
OF_A_HISTORY = {"message": "The reasoning_content in the thinking mode must be passed back"}


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
TALK = [*HELLO, {"role": "assistant", "content": [THOUGHT, {"type": "text", "text": "hi"}]}, *HELLO]
GROQS_OF_A_HISTORY = {"error": {"message": "'messages.1' : property 'reasoning_content' is unsupported"}}
MISTRALS_OF_A_HISTORY = {
    "object": "error",
    "message": {
        "detail": [
            {
                "type": "extra_forbidden",
                "loc": ["body", "messages", 1, "assistant", "reasoning_content"],
                "msg": "Extra inputs are not permitted",
            }
        ]
    },
}


def refusing(error: Json) -> Any:
    def script(body: Json) -> Answer:
        is_refused = "reasoning_effort" in body
        return Answer(status=400, body=json.dumps({"error": error}).encode()) if is_refused else Answer()

    return script


@pytest.mark.parametrize(("path", "body"), [("/v1/messages", CLAUDE_CODES), ("/v1/responses", CODEXS)])
@pytest.mark.parametrize("error", [OLLAMAS, GROQS])
async def test_a_model_that_refused_an_effort_is_asked_without_it_from_then_on(
    tmp_path: Path, path: str, body: Json, error: Json
) -> None:
    async with (
        fake_llm(refusing(error)) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
    ):
        statuses: list[int] = []
        for name in ("small", "small", "other"):
            async with gateway.post({**body, "model": name}, path) as response:
                statuses.append(response.status)
        turns = await gateway.turns()
    assert statuses == [200, 200, 200]
    asked = [(request["model"], "reasoning_effort" in request) for request in llm.requests]
    assert asked == [("small", True), ("small", False), ("small", False), ("other", True), ("other", False)]
    assert [turn.state for turn in turns] == ["done"] * 3


async def test_a_model_that_knows_no_xhigh_is_still_told_what_it_knows(tmp_path: Path) -> None:
    def script(body: Json) -> Answer:
        is_refused = body.get("reasoning_effort") == "xhigh"
        return Answer(status=400, body=json.dumps({"error": GROQS}).encode()) if is_refused else Answer()

    async with fake_llm(script) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for effort in ("xhigh", "high", "xhigh"):
            async with gateway.post({**CODEXS, "reasoning": {"effort": effort}}, "/v1/responses") as response:
                assert response.status == 200
    assert [request.get("reasoning_effort") for request in llm.requests] == ["xhigh", None, "high", None]


async def test_a_fallback_that_refuses_an_effort_stands_in_without_it(tmp_path: Path) -> None:
    async with fake_llm(lambda _: Answer(status=503)) as down, fake_llm(refusing(GROQS)) as other:
        fallback: Json = {"provider": "custom", "api_base": other.url, "model_id": "small"}
        settings = make_settings(tmp_path, llm_url=down.url, llm={"fallbacks": [fallback]})
        async with running_gateway(settings) as gateway:
            for _ in range(2):
                async with gateway.post(CODEXS, "/v1/responses") as response:
                    assert response.status == 200, await response.text()
            turns = await gateway.turns()
    assert ["reasoning_effort" in request for request in other.requests] == [True, False, False]
    assert [attempt["status"] for attempt in turns[0].attempts] == [503, 400, 200]


@pytest.mark.parametrize("error", [GROQS_OF_A_HISTORY, MISTRALS_OF_A_HISTORY])
async def test_a_session_goes_on_before_a_model_that_takes_no_thinking_back(tmp_path: Path, error: Json) -> None:
    def script(body: Json) -> Answer:
        if "reasoning_effort" in body:
            return Answer(status=400, body=json.dumps({"error": GROQS}).encode())
        if any("reasoning_content" in message for message in body["messages"]):
            return Answer(status=422, body=json.dumps(error).encode())
        return Answer()

    async with fake_llm(script) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for _ in range(2):
            async with gateway.post({**CLAUDE_CODES, "messages": TALK}, "/v1/messages") as response:
                assert response.status == 200, await response.text()
    *refused, first, second = llm.requests
    assert len(refused) == 2
    assert first == second
    assert [message["content"] for message in first["messages"]] == ["hello", "hi", "hello"]


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/v1/messages", CLAUDE_CODES, OF_A_HISTORY),
        ("/v1/chat/completions", {"model": "small", "messages": HELLO, "reasoning_effort": "high"}, GROQS),
    ],
)
async def test_what_is_about_something_else_or_in_the_models_own_dialect_is_told_as_it_is(
    tmp_path: Path, path: str, body: Json, error: Json
) -> None:
    async with (
        fake_llm(refusing(error)) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
        gateway.post(body, path) as response,
    ):
        assert response.status == 400
        assert error["message"] in await response.text()
    assert len(llm.requests) == 1


ROLES = [
    (400, "messages[0].role: unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`"),
    (400, "developer is not one of ['system', 'assistant', 'user', 'tool', 'function'] - 'messages.['0].role'"),
    (400, "invalid request: unsupported role ROLE_UNSPECIFIED"),
    (400, "Unexpected message role."),
    (422, "Input should be 'system', 'user', 'assistant', or 'tool'"),
    (422, None),
]


def refusing_developers(status: int, said: str | None) -> Any:
    def script(body: Json) -> Answer:
        if all(message["role"] != "developer" for message in body.get("messages") or body["input"]):
            return Answer()
        return Answer(status=status, body=b"" if said is None else json.dumps({"error": {"message": said}}).encode())

    return script


@pytest.mark.parametrize(("status", "said"), ROLES)
async def test_a_model_that_knows_no_developer_is_told_by_the_system_from_then_on(
    tmp_path: Path, status: int, said: str | None
) -> None:
    told = [{"role": "developer", "content": "Be brief.", "name": "me"}, {"role": "system", "content": "Please."}]
    body: Json = {"model": "small", "messages": [*told, *HELLO], "temperature": 0.5, "x-own": [1]}
    script = refusing_developers(status, said)
    async with fake_llm(script) as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway:
        for _ in range(2):
            async with gateway.post(body) as response:
                assert response.status == 200, await response.text()
        async with gateway.post({**body, "model": "other"}) as response:
            assert response.status == 200
        turns = await gateway.turns()
    renamed = {**body, "messages": [{**told[0], "role": "system"}, told[1], *HELLO]}
    assert llm.requests[:3] == [body, renamed, renamed]
    assert [request["messages"][0]["role"] for request in llm.requests[3:]] == ["developer", "system"]
    assert [attempt["status"] for attempt in turns[0].attempts] == [status, 200]
    kept = await said_in(turns[1], tmp_path)
    assert kept[0]["role"] == "developer", "it is recorded as the client said it"


async def test_a_developer_is_told_as_one_where_nothing_says_otherwise(tmp_path: Path) -> None:
    body: Json = {"model": "small", "messages": [{"role": "developer", "content": "Be brief."}, *HELLO]}
    for said in ("max_tokens is too large", "the model is overloaded"):
        script = lambda _, said=said: Answer(status=400, body=json.dumps({"error": {"message": said}}).encode())  # noqa: E731
        async with (
            fake_llm(script) as llm,
            running_gateway(make_settings(tmp_path / said.split()[0], llm_url=llm.url)) as gateway,
            gateway.post(body) as response,
        ):
            assert response.status == 400
        assert llm.requests == [body]


async def test_a_role_that_is_refused_as_the_systems_too_is_told_to_the_client(tmp_path: Path) -> None:
    body: Json = {"model": "small", "messages": [{"role": "developer", "content": "Be brief."}, *HELLO]}
    script = lambda _: Answer(status=400, body=b'{"error": {"message": "System role not supported"}}')  # noqa: E731
    async with (
        fake_llm(script) as llm,
        running_gateway(make_settings(tmp_path, llm_url=llm.url)) as gateway,
        gateway.post(body) as response,
    ):
        assert response.status == 400
        assert "System role not supported" in await response.text()
    assert [request["messages"][0]["role"] for request in llm.requests] == ["developer", "system"]


async def test_a_model_of_responses_that_knows_no_developer_is_told_by_the_system(tmp_path: Path) -> None:
    told = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    async with before(tmp_path, ("openai.responses",), refusing_developers(*ROLES[0])) as (llm, gateway):
        for _ in range(2):
            async with gateway.post({"model": "small", "input": told}, "/v1/responses") as response:
                assert response.status == 200, await response.text()
    assert [request["input"][0]["role"] for request in llm.requests] == ["developer", "system", "system"]
    assert [request["input"][1] for request in llm.requests] == [told[1]] * 3
