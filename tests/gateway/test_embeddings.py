"""Texts as vectors: passed through, counted, and neither recalled for nor learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, BadRequestError

from tests.fakes.llm import Answer, fake_llm
from tests.gateway.openai_dialects import CHAT, EMBEDDINGS, before, said_in
from tests.gateway.test_recall_and_identity import QUESTION, write_skill

pytestmark = pytest.mark.anyio


async def test_vectors_come_back_and_the_journal_has_a_side_turn_with_its_usage(tmp_path: Path) -> None:
    write_skill(tmp_path, "git-commit", "Write git commit messages")
    async with before(tmp_path, EMBEDDINGS) as (model, gateway):
        answer = await gateway.client.embeddings.create(model="small", input=[QUESTION, "b"], encoding_format="float")
        [turn] = await gateway.turns()
    assert [vector.embedding for vector in answer.data] == [[0.5, -0.25]] * 2
    assert model.requests[0]["input"] == [QUESTION, "b"]
    assert (turn.kind, turn.state, turn.dialect, turn.model) == ("side", "done", "openai.embeddings", "small")
    assert (turn.answer, turn.recalled, turn.prompt_tokens) == (None, (), 4)
    assert await said_in(turn, tmp_path) == []
    assert QUESTION not in json.dumps(turn.request)


async def test_a_request_goes_to_the_model_byte_for_byte(tmp_path: Path) -> None:
    raw = json.dumps({"input": [[1, 2]], "model": "small", "own": "é"}, ensure_ascii=False, indent=1).encode()
    async with before(tmp_path, EMBEDDINGS, llm={"model_id": "chats"}) as (model, gateway):
        async with gateway.post(raw, "/agents/ops/v1/embeddings", **{"X-Turn-Type": "main"}) as response:
            assert response.status == 200
        [turn] = await gateway.turns()
    assert model.raw_requests == [raw]
    assert (turn.agent, turn.kind) == ("ops", "side")


async def test_another_model_may_give_them_than_the_one_that_chats(tmp_path: Path) -> None:
    async with fake_llm() as other:
        fallback: Any = {
            "provider": "custom",
            "api_base": other.url,
            "dialects": ["openai.embeddings"],
            "model_id": "x",
        }
        async with before(tmp_path, CHAT, llm={"fallbacks": [fallback]}) as (chats, gateway):
            await gateway.client.embeddings.create(model="small", input="a", encoding_format="float")
            await gateway.client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hi"}])
    assert [request["model"] for request in other.requests] == ["small"]
    assert [request["model"] for request in chats.requests] == ["any"]


async def test_a_model_that_only_embeds_is_not_asked_to_chat_when_another_is_down(tmp_path: Path) -> None:
    async with fake_llm() as other:
        fallback: Any = {"provider": "custom", "api_base": other.url, "dialects": ["openai.embeddings"]}
        async with before(tmp_path, CHAT, lambda _: Answer(status=500), llm={"fallbacks": [fallback]}) as (_, gateway):
            with pytest.raises(APIStatusError) as failure:
                await gateway.client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hi"}])
    assert failure.value.status_code in (500, 503)
    assert other.requests == []


async def test_without_a_model_that_gives_them_the_error_says_where_to_name_one(tmp_path: Path) -> None:
    async with before(tmp_path, CHAT) as (model, gateway):
        with pytest.raises(BadRequestError, match=r"llm\.dialects"):
            await gateway.client.embeddings.create(model="small", input="a")
    assert model.requests == []


async def test_the_models_own_error_is_the_clients(tmp_path: Path) -> None:
    no = Answer(status=404, body=b'{"error": {"message": "no such model here", "code": "model_not_found"}}')
    async with before(tmp_path, EMBEDDINGS, lambda _: no) as (_, gateway):
        with pytest.raises(APIStatusError, match="no such model here") as refusal:
            await gateway.client.embeddings.create(model="small", input="a")
        [turn] = await gateway.turns()
    assert refusal.value.status_code == 404
    assert (turn.state, turn.kind) == ("failed", "side")


async def test_an_input_is_needed(tmp_path: Path) -> None:
    async with before(tmp_path, EMBEDDINGS) as (_, gateway), gateway.post({"model": "m"}, "/v1/embeddings") as response:
        assert response.status == 400
        assert (await response.json())["error"]["param"] == "input"
