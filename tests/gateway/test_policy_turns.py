"""What is recorded of turns that a policy answers, and what the client sees of that."""

from __future__ import annotations

import asyncio
import sqlite3
from array import array
from pathlib import Path
from typing import Any

import pytest

from metaclaw.config import bridge_key
from tests.fakes.llm import BASE_MODEL, Answer, fake_llm, policy_record
from tests.gateway.policies import HELLO, KEY, ask, rl_settings, sample_of
from tests.gateway.running import running_gateway

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stream", [False, True])
async def test_a_policy_turn_is_recorded_with_what_was_sampled(tmp_path: Path, stream: bool) -> None:
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        response = await ask(gateway, stream)
        [turn] = await gateway.turns()
        sample = await sample_of(gateway, turn.id)
    assert response.headers["x-metaclaw-policy"] == "main@0"
    assert response.headers["x-metaclaw-turn"] == turn.id
    assert (turn.upstream, turn.state) == ("policy", "done")
    assert sample is not None
    assert (array("i", sample.tokens).tolist(), array("f", sample.logprobs_full).tolist()) == ([4, 5], [-0.75, -0.5])
    assert (sample.version, sample.model, sample.temperature, sample.untrainable) == (0, BASE_MODEL, 1.0, None)
    assert sample.spans == (("text", 0, 1), ("end", 1, 2))


@pytest.mark.parametrize("stream", [False, True])
async def test_the_policy_record_never_reaches_the_client(tmp_path: Path, stream: bool) -> None:
    body = {"model": "metaclaw", "messages": HELLO, "stream": stream, "stream_options": {"include_usage": True}}
    async with (
        fake_llm(api_key=KEY) as policy,
        running_gateway(rl_settings(tmp_path, policy)) as gateway,
        gateway.post(body) as response,
    ):
        text = await response.text()
    assert "policy_record" not in text
    assert '"usage"' in text
    assert policy.requests[0]["return_policy_record"] is True


async def test_an_answer_that_mentions_a_policy_record_passes_unchanged(tmp_path: Path) -> None:
    said = 'the key "policy_record" is ours'
    async with (
        fake_llm(lambda _: Answer(text=said), api_key=KEY) as policy,
        running_gateway(rl_settings(tmp_path, policy)) as gateway,
    ):
        stream = await gateway.client.chat.completions.create(model="m", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said


async def test_main_turns_are_sampled_from_the_whole_distribution_and_the_client_is_told(tmp_path: Path) -> None:
    """KNOWLEDGE: log-probs of truncated sampling are wrong for training."""
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        response = await ask(gateway, top_p=0.5)
        plain = await ask(gateway)
        await ask(gateway, top_p=0.5, extra_body={"top_k": 5})
    [truncated, untouched, _] = policy.requests
    assert (truncated["top_p"], truncated["top_k"], truncated["temperature"], truncated["max_tokens"]) == (
        1,
        -1,
        1.0,
        1024,
    )
    assert (untouched["top_p"], untouched["top_k"]) == (1, -1)
    assert response.headers["x-metaclaw-sampling"] == "top_p=1,top_k=-1"
    assert "x-metaclaw-sampling" not in plain.headers


async def test_cold_turns_and_side_turns_are_recorded_as_not_trainable(tmp_path: Path) -> None:
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        await ask(gateway, temperature=0.1)
        async with gateway.post({"messages": HELLO, "top_p": 0.5}, **{"X-Turn-Type": "side"}) as response:
            assert response.status == 200
        samples = [await sample_of(gateway, turn.id) for turn in await gateway.turns()]
    assert [sample and sample.untrainable for sample in samples] == ["temperature 0.1 is below 0.3", "side turn"]
    assert policy.requests[1]["top_p"] == 0.5


async def test_at_a_cloud_main_turns_are_sampled_at_the_one_temperature_that_it_trains_at(tmp_path: Path) -> None:
    """DESIGN, the recipe: their temperature is trained as sampled on our engine and is 1 on others."""
    cloud: Any = {"backend": "tinker", "api_key": "tml-1", "temperature": 0.7}
    key = bridge_key(rl_settings(tmp_path, None, rl=cloud)).get_secret_value()
    async with fake_llm(api_key=key) as bridge:
        port = int(bridge.url.removesuffix("/v1").rpartition(":")[2])
        async with running_gateway(rl_settings(tmp_path, None, rl=cloud | {"bridge_port": port})) as gateway:
            asked = await ask(gateway, temperature=0.5)
            await ask(gateway)
            cold = await ask(gateway, temperature=0.1)
            *_, turn = await gateway.turns()
            sample = await sample_of(gateway, turn.id)
    assert [body["temperature"] for body in bridge.requests] == [1, 1, 0.1]
    assert asked.headers["x-metaclaw-sampling"] == "temperature=1"
    assert "x-metaclaw-sampling" not in cold.headers
    assert sample is not None
    assert sample.untrainable == "temperature 0.1 is below 0.3"


async def test_several_answers_at_once_come_without_a_sample(tmp_path: Path) -> None:
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        response = await ask(gateway, n=2)
        [turn] = await gateway.turns()
        assert await sample_of(gateway, turn.id) is None
    assert len(response.parse().choices) == 2
    assert "return_policy_record" not in policy.requests[0]


async def test_a_policy_record_that_cannot_be_read_costs_the_sample_not_the_answer(tmp_path: Path) -> None:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
    broken = Answer(events=(chunk, {"id": "c", "choices": [], "policy_record": {"tokens": "?"}}))
    async with (
        fake_llm(lambda _: broken, api_key=KEY) as policy,
        running_gateway(rl_settings(tmp_path, policy)) as gateway,
    ):
        await ask(gateway, True)
        [turn] = await gateway.turns()
        assert await sample_of(gateway, turn.id) is None
        health = await (await gateway.http.get(f"{gateway.url}/healthz")).json()
    assert (turn.state, turn.answer) == ("done", {"role": "assistant", "content": "hi"})
    assert health["recording_failures"] == 1


async def test_a_turn_that_was_cut_has_no_sample(tmp_path: Path) -> None:
    async with fake_llm(lambda _: Answer(hold_after=3), api_key=KEY) as policy:
        async with running_gateway(rl_settings(tmp_path, policy)) as gateway:
            stream = await gateway.client.chat.completions.create(model="m", messages=HELLO, stream=True)
            await anext(stream)
            await stream.close()
            await policy.was_left.wait()
        [turn] = await gateway.turns()
        assert await sample_of(gateway, turn.id) is None
    assert turn.state == "cut"


@pytest.mark.parametrize("record_comes", [True, False])
async def test_a_client_that_stops_at_the_finish_reason_has_a_complete_turn(tmp_path: Path, record_comes: bool) -> None:
    async with fake_llm(lambda _: Answer(hold_after=7), api_key=KEY) as policy:
        async with running_gateway(rl_settings(tmp_path, policy)) as gateway:
            stream = await gateway.client.chat.completions.create(model="m", messages=HELLO, stream=True)
            async for chunk in stream:
                if chunk.choices[0].finish_reason:
                    break
            await stream.close()
            if record_comes:
                await asyncio.sleep(0.1)
                policy.go_on.set()
            else:
                await policy.was_left.wait()
        [turn] = await gateway.turns()
        sample = await sample_of(gateway, turn.id)
    assert (turn.state, turn.error, turn.finish_reason) == ("done", None, "stop")
    assert (sample is not None) == record_comes


async def test_a_seed_that_the_journal_cannot_keep_costs_the_sample_not_the_answer(tmp_path: Path) -> None:
    record = policy_record({"model": BASE_MODEL}) | {"seed": 2**63}
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
    answer = Answer(events=(chunk, {"id": "c", "choices": [], "policy_record": record}))
    async with (
        fake_llm(lambda _: answer, api_key=KEY) as policy,
        running_gateway(rl_settings(tmp_path, policy)) as gateway,
    ):
        await ask(gateway, True)
        [turn] = await gateway.turns()
        assert await sample_of(gateway, turn.id) is None
    assert (turn.state, turn.answer) == ("done", {"role": "assistant", "content": "hi"})


async def test_a_sample_that_the_journal_refuses_does_not_leave_the_turn_open(tmp_path: Path) -> None:
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        await asyncio.to_thread(_refuse_samples, tmp_path / "turns.db")
        await ask(gateway, True)
        [turn] = await gateway.turns()
        assert await sample_of(gateway, turn.id) is None
        health = await (await gateway.http.get(f"{gateway.url}/healthz")).json()
    assert (turn.state, turn.finish_reason) == ("done", "stop")
    assert health["recording_failures"] == 1


def _refuse_samples(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TRIGGER no_samples BEFORE INSERT ON samples BEGIN SELECT RAISE(FAIL, 'refused'); END")
    db.commit()
    db.close()
