"""The gateway before the policies of a training server (the real one is tested with the programs together)."""

from __future__ import annotations

import asyncio
import sqlite3
from array import array
from pathlib import Path
from typing import Any

import openai
import pytest

from metaclaw.config import Settings, bridge_key
from metaclaw.journal.database import open_writer
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import NewVersion
from metaclaw.journal.turns import PolicySample, TurnReader
from tests.fakes.llm import BASE_MODEL, Answer, FakeLlm, fake_llm, policy_record
from tests.gateway.running import RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
V1, V2 = "tinker://run/sampler_weights/v1", "tinker://run/sampler_weights/v2"
KEY = "training-key"


def rl_settings(home: Path, policy: FakeLlm | None, **sections: Any) -> Settings:
    url = policy.url.removesuffix("/v1") if policy else "http://127.0.0.1:9"
    rl = {"remote_url": url, "remote_api_key": KEY, **sections.pop("rl", {})}
    return make_settings(home, mode="rl", rl=rl, **sections)


async def serve_version(home: Path, agent: str, version: int, path: str) -> None:
    """What the learner does when a version begins to serve."""
    await asyncio.to_thread(_serve_version, home, agent, version, path)


def _serve_version(home: Path, agent: str, version: int, path: str) -> None:
    learning = open_writer(home / "learning.db", "learning")
    learning.execute(
        "INSERT INTO updates (id, agent, parent, state, started_at) VALUES (?, ?, 0, 'committed', 0)", (version, agent)
    )
    learning.execute(
        "INSERT INTO versions (agent, version, parent, update_id, base_model, state_path, sampler_path, created_at) "
        "VALUES (?, ?, 0, ?, 'base', 'state', ?, 0)",
        (agent, version, version, path),
    )
    learning.execute("INSERT OR REPLACE INTO serving VALUES (?, ?, 0)", (agent, version))
    learning.close()


def _try_version(home: Path, agent: str, version: int, path: str, share: float) -> None:
    with LearningJournal.open(home / "learning.db") as journal:
        claimed = journal.claim(agent, journal.serving(agent), [])
        new = NewVersion(base_model="base", state_path="state", sampler_path=path)
        journal.commit(claimed, new, number=version, baseline=None, metrics={}, canary_share=share)


def _end_canary(home: Path) -> None:
    with LearningJournal.open(home / "learning.db") as journal:
        (canary,) = journal.canaries()
        journal.end_canary(canary, "it was worse", serves=False)


async def versions_of(gateway: RunningGateway, session: str, *, turns: int) -> list[str]:
    return [(await ask(gateway, session=session)).headers["x-metaclaw-policy"] for _ in range(turns)]


async def sample_of(gateway: RunningGateway, turn_id: str) -> PolicySample | None:
    def read() -> PolicySample | None:
        with TurnReader.open(gateway.home / "turns.db") as reader:
            return reader.sample(turn_id)

    return await asyncio.to_thread(read)


async def ask(gateway: RunningGateway, stream: bool = False, session: str = "s", **settings: Any) -> Any:
    """One turn through the official client; returns the raw response with its headers read to the end."""
    response = await gateway.client.chat.completions.with_raw_response.create(
        model="metaclaw", messages=HELLO, stream=stream, extra_headers={"X-Session-Id": session}, **settings
    )
    parsed = response.parse()
    if stream:
        _ = [chunk async for chunk in parsed]
    return response


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


async def test_a_running_session_keeps_its_version_until_it_is_idle(tmp_path: Path) -> None:
    now = 1000.0
    models = [BASE_MODEL, V1, V2]
    await serve_version(tmp_path, "main", 1, V1)
    async with fake_llm(api_key=KEY, models=models, knows_only_its_models=True) as policy:
        settings = rl_settings(tmp_path, policy, rl={"session_idle_s": 60})
        async with running_gateway(settings, clock=lambda: now) as gateway:
            old = [(await ask(gateway, session="old")).headers["x-metaclaw-policy"]]
            await serve_version(tmp_path, "main", 2, V2)
            now += 59
            old.append((await ask(gateway, session="old")).headers["x-metaclaw-policy"])
            new = (await ask(gateway, session="new")).headers["x-metaclaw-policy"]
            now += 61
            old.append((await ask(gateway, session="old")).headers["x-metaclaw-policy"])
    assert old == ["main@1", "main@1", "main@2"]
    assert new == "main@2"
    assert [request["model"] for request in policy.requests] == [V1, V1, V2, V2]


async def test_agents_have_versions_of_their_own(tmp_path: Path) -> None:
    await serve_version(tmp_path, "ops", 1, V1)
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        async with gateway.post({"messages": HELLO}, "/agents/ops/v1/chat/completions") as response:
            assert response.headers["X-MetaClaw-Policy"] == "ops@1"
        assert (await ask(gateway)).headers["x-metaclaw-policy"] == "main@0"
        listed = await (
            await gateway.http.get(f"{gateway.url}/agents/ops/v1/models", headers={"x-api-key": "gateway-token"})
        ).json()
    assert listed["data"][0]["policy"] == "ops@1"


async def test_a_canary_gets_its_share_of_the_sessions_and_each_session_one_version(tmp_path: Path) -> None:
    async with fake_llm(api_key=KEY) as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        await serve_version(tmp_path, "main", 1, V1)
        await asyncio.to_thread(_try_version, tmp_path, "main", 2, V2, 0.25)
        seen = {name: await versions_of(gateway, name, turns=2) for name in map(str, range(60))}
        await asyncio.to_thread(_end_canary, tmp_path)
        after = {name: await versions_of(gateway, name, turns=1) for name in ("0", "1", "new")}
        turns = await gateway.turns()
    assert all(len(set(versions)) == 1 for versions in seen.values()), "a session has one version"
    canary = [name for name, versions in seen.items() if versions[0] == "main@2"]
    assert {versions[0] for versions in seen.values()} == {"main@1", "main@2"}
    assert 5 <= len(canary) <= 25, "the hash of 60 names: 25% give or take four standard deviations"
    assert [after[name] for name in ("0", "1")] == [seen["0"][:1], seen["1"][:1]], "a running session keeps its own"
    assert after["new"] == ["main@1"]
    asked = [body["model"] for body in policy.requests]
    assert asked.count(V2) == 2 * len(canary) + sum(name in canary for name in ("0", "1"))
    sample = await sample_of(gateway, turns[0].id)
    assert sample is not None
    assert f"main@{sample.version}" == seen["0"][0], "which version answered is recorded"


async def test_a_version_that_the_server_lost_is_replaced_by_the_one_that_serves(tmp_path: Path) -> None:
    """KNOWLEDGE 6: an evicted adapter answers 404 for ever."""
    await serve_version(tmp_path, "main", 1, V1)
    models = [BASE_MODEL, V1]
    async with (
        fake_llm(api_key=KEY, models=models, knows_only_its_models=True) as policy,
        running_gateway(rl_settings(tmp_path, policy)) as gateway,
    ):
        await ask(gateway)
        await serve_version(tmp_path, "main", 2, V2)
        models[1:] = [V2]
        labels = [(await ask(gateway)).headers["x-metaclaw-policy"] for _ in range(2)]
    assert labels == ["main@2", "main@2"]
    assert [request["model"] for request in policy.requests] == [V1, V1, V2, V2]


async def test_without_the_training_server_turns_go_to_the_configured_model_and_are_not_trained_on(
    tmp_path: Path,
) -> None:
    async with fake_llm() as llm:
        settings = rl_settings(tmp_path, None, llm={"api_base": llm.url, "model_id": "big-model"})
        async with running_gateway(settings) as gateway:
            response = await ask(gateway, True)
            [turn] = await gateway.turns()
            assert await sample_of(gateway, turn.id) is None
    assert "x-metaclaw-policy" not in response.headers
    assert (turn.upstream, turn.state) == ("fake", "done")
    assert llm.requests[0]["model"] == "big-model"


async def test_a_training_server_that_cannot_even_be_asked_leaves_the_turn_to_the_other_model(tmp_path: Path) -> None:
    """A port that speaks something else was a 500, and a turn that said the client had left."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with fake_llm() as llm, server:
        settings = rl_settings(tmp_path, None, rl={"remote_url": url}, llm={"api_base": llm.url})
        async with running_gateway(settings) as gateway:
            await ask(gateway)
            [turn] = await gateway.turns()
    assert (turn.upstream, turn.state) == ("fake", "done")


async def test_with_nobody_to_answer_the_client_is_told_to_come_back(tmp_path: Path) -> None:
    """PITFALLS P2: requests were parked in threads for 300 s, and then refused."""
    async with running_gateway(rl_settings(tmp_path, None)) as gateway:
        with pytest.raises(openai.InternalServerError, match="cannot be reached") as caught:
            await ask(gateway)
        [turn] = await gateway.turns()
    assert caught.value.status_code == 503
    assert int(caught.value.response.headers["retry-after"]) > 0
    assert turn.state == "failed"


async def test_a_refused_training_key_is_named(tmp_path: Path) -> None:
    async with fake_llm(api_key="another") as policy, running_gateway(rl_settings(tmp_path, policy)) as gateway:
        with pytest.raises(openai.InternalServerError, match=r"rl\.remote_api_key") as caught:
            await ask(gateway)
    assert caught.value.status_code == 503
    assert KEY not in caught.value.message


async def test_a_request_that_the_policy_refuses_is_not_sent_elsewhere(tmp_path: Path) -> None:
    refusal = Answer(status=400, body=b'{"error": {"message": "prompt too long", "code": "context_length_exceeded"}}')
    async with (
        fake_llm(lambda _: refusal, api_key=KEY) as policy,
        fake_llm() as llm,
        running_gateway(rl_settings(tmp_path, policy, llm={"api_base": llm.url})) as gateway,
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            await ask(gateway)
    assert caught.value.code == "context_length_exceeded"
    assert llm.requests == []


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


def _break_serving(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE serving RENAME COLUMN version TO lost")
    db.close()


async def test_a_learning_journal_that_breaks_meanwhile_leaves_the_turn_to_the_other_model(tmp_path: Path) -> None:
    """The version is looked up a second time when the training server does not have the first one."""

    def break_journal(_: dict[str, Any]) -> Answer:
        _break_serving(tmp_path / "learning.db")
        return Answer(status=404, body=b'{"error": {"message": "no such model"}}')

    await serve_version(tmp_path, "main", 1, V1)
    async with (
        fake_llm(break_journal, api_key=KEY) as policy,
        fake_llm() as llm,
        running_gateway(rl_settings(tmp_path, policy, llm={"api_base": llm.url})) as gateway,
    ):
        await ask(gateway)
        [turn] = await gateway.turns()
    assert (turn.state, turn.upstream) == ("done", "fake")


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


async def say(gateway: RunningGateway, messages: list[Any], *, session: str = "s", agent: str = "main") -> None:
    body = {"model": "metaclaw", "messages": messages}
    async with gateway.post(body, **{"X-Session-Id": session, "X-Agent-Id": agent}) as response:
        assert response.status == 200, await response.text()


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
