"""Policies before clients of every dialect: answers go back as they were drawn."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.llm import BASE_MODEL, fake_llm, policy_record
from tests.gateway.policies import HELLO, KEY, ask, rl_settings, sample_of, say
from tests.gateway.running import running_gateway

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stream", [False, True])
async def test_an_earlier_answer_goes_back_with_the_tokens_that_it_was_drawn_as(tmp_path: Path, stream: bool) -> None:
    """DESIGN 2, PITFALLS R3: nothing that the policy said is tokenised a second time."""
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        await ask(gateway, stream)
        history = [*HELLO, {"role": "assistant", "content": "Hello from the fake model. \n"}, *HELLO]
        await say(gateway, history)
        await say(gateway, history, session="another")
        await say(gateway, history, agent="another")
        await say(gateway, [*HELLO, {"role": "assistant", "content": "Something else."}, *HELLO])
    own, *others = [request["messages"][1] for request in policy.requests[1:]]
    drawn = policy_record({"model": BASE_MODEL})
    assert own == {**history[1], "token_ids": drawn["tokens"], "renderer": drawn["renderer"]}
    assert all("token_ids" not in message for message in others)


async def test_the_tokens_of_an_earlier_answer_survive_a_restart(tmp_path: Path) -> None:
    history = [*HELLO, {"role": "assistant", "content": "Hello from the fake model."}, *HELLO]
    async with fake_llm(api_key=KEY) as policy:
        async with running_gateway(rl_settings(tmp_path, policy)) as gateway:
            await ask(gateway)
        async with running_gateway(rl_settings(tmp_path, policy)) as gateway:
            await say(gateway, history)
    assert policy.requests[-1]["messages"][1]["token_ids"] == policy_record({"model": BASE_MODEL})["tokens"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_of_anthropics_messages_is_learned_from_as_well(tmp_path: Path, stream: bool) -> None:
    body = {"model": "metaclaw", "max_tokens": 50, "messages": HELLO, "system": [{"type": "text", "text": "Be brief."}]}
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        async with gateway.post({**body, "stream": stream}, "/v1/messages") as response:
            text = await response.text()
        [turn] = await gateway.turns()
        sample = await sample_of(gateway, turn.id)
    assert ("message_stop" in text, "policy_record" in text, "Hello" in text) == (stream, False, True)
    assert response.headers["x-metaclaw-policy"] == "main@0"
    assert (turn.dialect, turn.upstream, turn.state) == ("anthropic.messages", "policy", "done")
    assert turn.answer == {"role": "assistant", "content": "Hello from the fake model."}
    assert sample is not None
    assert (array("i", sample.tokens).tolist(), sample.untrainable) == ([4, 5], None)
    asked = policy.requests[0]
    assert (asked["max_tokens"], asked["return_policy_record"]) == (50, True)
    assert asked["messages"] == [{"role": "system", "content": "Be brief."}, *HELLO]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "said"),
    [("/v1/responses", {"input": "hello", "instructions": "Be brief."}), ("/v1/completions", {"prompt": "hello"})],
)
async def test_clients_of_openais_other_dialects_are_learned_from_as_well(
    tmp_path: Path, path: str, said: dict[str, Any], stream: bool
) -> None:
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        async with gateway.post({"model": "metaclaw", "stream": stream, **said}, path) as response:
            text = await response.text()
        [turn] = await gateway.turns()
        sample = await sample_of(gateway, turn.id)
    assert ("policy_record" in text, "Hello" in text) == (False, True)
    assert response.headers["x-metaclaw-policy"] == "main@0"
    assert (turn.upstream, turn.state) == ("policy", "done")
    assert turn.answer == {"role": "assistant", "content": "Hello from the fake model."}
    assert sample is not None
    assert (array("i", sample.tokens).tolist(), sample.untrainable) == ([4, 5], None)
    assert policy.requests[0]["messages"][-1] == {"role": "user", "content": "hello"}


async def test_a_policy_gives_no_embeddings_but_the_model_beside_it_may(tmp_path: Path) -> None:
    body = {"model": "small", "input": "hello"}
    llm = {"dialects": ["openai.chat", "openai.embeddings"], "model_id": "chats"}
    async with fake_llm(api_key=KEY) as policy, fake_llm() as other:
        async with (
            running_gateway(rl_settings(tmp_path / "alone", policy)) as gateway,
            gateway.post(body, "/v1/embeddings") as response,
        ):
            assert response.status == 400
            assert "gives no embeddings" in await response.text()
        async with (
            running_gateway(rl_settings(tmp_path / "both", policy, llm_url=other.url, llm=llm)) as gateway,
            gateway.post(body, "/v1/embeddings") as response,
        ):
            assert response.status == 200
    assert policy.requests == []
    assert other.requests == [body]
