"""One contract for the fake trainer and for every SDK: against a real server those that can speak to it."""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace

import aiohttp
import numpy as np
import pytest
from pydantic import SecretStr
from safetensors import safe_open

from metaclaw.cli.policy_answers import download_adapter
from metaclaw.config import RlSettings, Settings, UpdateSettings
from metaclaw.errors import BackendError, ConflictError
from metaclaw.learner.backends.backend import LostStateError, RefusedDataError, TrainingBackend
from metaclaw.learner.backends.sdk_child import CloudBackend
from metaclaw.learner.datums import DatumGroup, Likely, LikelyDatum, LikelyGroup, TrainingTurn, build_groups
from metaclaw.learner.extras import load_backend
from metaclaw.learner.gate.answers import EndpointDrawer
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.upstream import Timeouts, Upstream
from tests.clients.environments import python_of
from tests.fakes.trainer import FakeTrainer
from tests.fakes.training_server import API_KEY, TrainingServer
from tests.fakes.weaver_server import API_KEY as WEAVER_KEY
from tests.fakes.weaver_server import BASE_MODEL, weaver_cloud
from tests.learner.recording import policy_sample

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]

STEP = {"learning_rate": 0.01, "grad_clip_norm": 1.0}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all, so that each SDK's process is started once."""
    return "asyncio"


@pytest.fixture(scope="module", params=["fake", "remote", "tinker", "mint", "weaver"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[TrainingBackend]:
    with ExitStack() as stack:
        if request.param == "fake":
            made = FakeTrainer()
        elif request.param == "weaver":
            cloud = stack.enter_context(weaver_cloud())
            made = at_cloud("weaver", cloud.url, BASE_MODEL, api_key=WEAVER_KEY)
        else:
            trainer: TrainingServer = request.getfixturevalue("trainer")
            is_ours = request.param == "remote"
            made = real(trainer) if is_ours else at_cloud(request.param, trainer.url, str(trainer.model))
        yield made
        await made.close()


def real(trainer: TrainingServer, **changes) -> TrainingBackend:
    own = {"remote_url": trainer.url, "remote_api_key": API_KEY, "lora_rank": 4, "model": str(trainer.model)}
    return load_backend(RlSettings(**own | changes))


def at_cloud(name: str, url: str, model: str, **changes) -> TrainingBackend:
    """What a cloud's SDK does where our own server stands in for the cloud."""
    key = {"tinker": f"tml-{API_KEY}", "mint": f"sk-{API_KEY}"}.get(name, API_KEY)
    own = {
        "backend": name,
        "api_key": key,
        "base_url": url,
        "model": model,
        "lora_rank": 4,
        "sdk_python": python_of(name),
    }
    return load_backend(RlSettings(**{"lora_rank": 4, **own, **changes}))


def groups(*temperatures: float, surprise: float = 1.0) -> tuple[DatumGroup, ...]:
    turns = [
        TrainingTurn(
            turn=f"t{index}", surprise=surprise,
            sample=policy_sample([1, 2, 3], [4, 5, 6], [-2.0, -2.0, -2.0], temperature=temperature),
        )
        for index, temperature in enumerate(temperatures)
    ]  # fmt: skip
    return build_groups(turns, UpdateSettings())


def answers(passed) -> np.ndarray:
    return np.concatenate([logprobs[2:] for logprobs in passed.logprobs])


async def test_both_passes_agree_and_know_the_temperature(backend):
    run = await backend.open(None)
    data = groups(1.0, 1.0)
    with_gradient, without = await run.forward_backward(data), await run.forward(data)
    assert [logprobs.shape for logprobs in without.logprobs] == [(5,)] * 2
    np.testing.assert_allclose(answers(with_gradient), answers(without), atol=1e-5)
    plain, same = without.logprobs
    np.testing.assert_allclose(plain, same, atol=1e-5)
    assert "loss:sum" in with_gradient.metrics
    if not isinstance(backend, CloudBackend):
        (sharp,) = (await run.forward(groups(0.5))).logprobs
        assert np.abs(sharp - plain).max() > 1e-3
    else:
        with pytest.raises(RefusedDataError, match=r"temperature 0\.5"):
            await run.forward(groups(0.5))
    await run.close()


@pytest.mark.parametrize("backend", ["remote", "tinker", "mint"], indirect=True)
async def test_a_loss_compares_with_where_its_ratios_start_from(backend):
    run = await backend.open(None)
    data = groups(1.0)
    now = await run.forward(data)
    (datum,), (now_T,) = data[0].data, now.logprobs
    anew = replace(data[0], data=(replace(datum, proximal_T=now_T),))
    metrics = (await run.forward_backward([anew])).metrics
    assert metrics["loss:sum"] == pytest.approx(-np.sum(datum.advantages_T), abs=1e-4)  # all ratios are 1
    assert (await run.forward_backward(data)).metrics["loss:sum"] != pytest.approx(metrics["loss:sum"], abs=1e-2)
    await run.close()


@pytest.mark.parametrize("backend", ["fake", "remote"], indirect=True)
async def test_several_targets_at_one_place_are_learned_by_their_weights(backend):
    run = await backend.open(None)
    targets, weights = np.asarray([[0, 0], [5, 6], [7, 5]]), np.asarray([[0, 0], [1.0, -1.0], [0, 0.5]], np.float32)
    datum = LikelyDatum(tokens_T=np.asarray([1, 2, 3]), likely=Likely(targets_TK=targets, weights_TK=weights))
    data = [LikelyGroup(data=(datum,))]
    (before,) = (await run.forward_backward(data)).logprobs
    assert before.shape == (3, 2)
    await run.optim_step(**STEP)
    (after,) = (await run.forward(data)).logprobs
    assert (after[1, 0] - before[1, 0]) > (after[1, 1] - before[1, 1])
    assert np.sum(weights * after) > np.sum(weights * before)
    await run.close()


async def test_a_step_makes_rewarded_tokens_likelier_and_is_remembered(backend):
    run = await backend.open(None)
    data = groups(1.0)
    before = await run.forward_backward(data)
    metrics = await run.optim_step(**STEP)
    assert metrics["grad_norm"] > 0
    after = await run.forward(data)
    assert answers(after).sum() > answers(before).sum()
    saved = await run.save(f"main-v1-{uuid.uuid4().hex}")
    await run.warm(saved.sampler_path)
    assert run.base_model
    await run.close()
    resumed = await backend.open(saved.state_path)
    np.testing.assert_allclose(answers(await resumed.forward(data)), answers(after), atol=1e-5)
    await resumed.close()


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(backend):
    run = await backend.open(None)
    gone, stays = [await run.save(f"main-v{number}-{uuid.uuid4().hex}") for number in (1, 2)]
    for _ in range(2):
        await backend.delete([gone.state_path, gone.sampler_path])
    await run.warm(stays.sampler_path)
    with pytest.raises(BackendError):
        await run.warm(gone.sampler_path)
    await run.close()
    with pytest.raises(LostStateError, match=gone.state_path):
        await backend.open(gone.state_path)
    await (await backend.open(stays.state_path)).close()


async def test_what_was_saved_is_found_by_its_name_and_nothing_else_is(backend):
    run, other = await backend.open(None), await backend.open(None)
    name = f"main-v1-{uuid.uuid4().hex}"
    saved = await run.save(name)
    if other.id != run.id:  # the fake has one run for all
        await other.save(name)
    await run.save(f"{name}-2")
    assert sorted(await backend.saved_as(name, run=run.id)) == sorted([saved.state_path, saved.sampler_path])
    await backend.delete([saved.state_path])
    assert await backend.saved_as(name, run=run.id) == [saved.sampler_path]
    assert await backend.saved_as("main-v2", run=run.id) == []
    assert await backend.saved_as(name, run=f"{run.id}0") == []
    await run.close()
    assert await backend.saved_as(name, run=run.id) == [saved.sampler_path], "who saved it has ended"
    await other.close()


async def test_gradients_add_up_over_calls_and_a_step_spends_them(backend):
    run = await backend.open(None)
    await run.forward_backward(groups(1.0))
    once = await run.optim_step(learning_rate=1e-12, grad_clip_norm=1.0)
    await run.forward_backward(groups(1.0))
    await run.forward_backward(groups(1.0))
    twice = await run.optim_step(learning_rate=1e-12, grad_clip_norm=1.0)
    assert twice["grad_norm"] == pytest.approx(2 * once["grad_norm"], rel=1e-3)
    await run.close()


async def test_a_silent_cloud_holds_up_neither_an_abandoned_pass_nor_the_end():
    """The user is back: training stops within seconds, whatever the cloud does."""
    with weaver_cloud() as cloud:
        backend = at_cloud("weaver", cloud.url, BASE_MODEL, api_key=WEAVER_KEY)
        run = await backend.open(None)
        cloud.answers.clear()
        training = asyncio.create_task(run.forward_backward(groups(1.0)))
        while not any("forward-passes" in asked for asked, _ in cloud.asked):  # noqa: ASYNC110 - another thread's
            await asyncio.sleep(0.01)
        training.cancel()
        with pytest.raises(asyncio.CancelledError):
            await training
        async with asyncio.timeout(60):  # it would be rl.remote_timeout_s, ten minutes
            await run.close()
            await backend.close()
        cloud.answers.set()


async def test_the_real_server_says_how_large_its_model_is_and_a_stranger_is_no_error(trainer):
    backend = real(trainer)
    with safe_open(trainer.model / "model.safetensors", "np") as weights:
        size = sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    assert await backend.num_parameters(str(trainer.model)) == size
    assert await backend.num_parameters("Qwen/Qwen3-8B") == 8_000_000_000, "another model is known by its name alone"
    nobody = real(trainer, remote_url="http://127.0.0.1:9")
    assert await nobody.num_parameters("mine") is None


async def test_data_that_can_never_be_trained_is_told_apart_from_a_failure(trainer):
    run = await real(trainer).open(None)
    too_long = TrainingTurn(turn="t", sample=policy_sample([1] * 300, [2], [-1.0]), surprise=1.0)
    with pytest.raises(RefusedDataError):
        await run.forward_backward(build_groups([too_long], UpdateSettings()))
    await run.close()


async def test_the_real_server_refuses_another_key_and_another_model_by_name(trainer):
    with pytest.raises(BackendError, match=r"rl\.remote_api_key"):
        await real(trainer, remote_api_key="other").open(None)
    with pytest.raises(BackendError, match="Qwen3-8B"):
        await real(trainer, model="Qwen/Qwen3-8B").open(None)
    run = await real(trainer, model="").open(None)
    assert run.base_model == str(trainer.model), "without rl.model the server's only one is taken"
    await run.close()


async def test_the_real_server_answers_the_same_for_one_seed_and_scores_what_it_said(trainer):
    upstream = Upstream(
        name="the training server", base_url=f"{trainer.url}/v1", api_key=SecretStr(API_KEY), key_setting="k",
        timeouts=Timeouts(),
    )  # fmt: skip
    run = await real(trainer).open(None)
    saved = await run.save(f"gate-{uuid.uuid4().hex}")
    await run.close()
    prompt = [5, 6, 7, 8]
    async with aiohttp.ClientSession() as session:
        drawer = EndpointDrawer(HttpModel(session, upstream))
        drawn = [
            await drawer.draw(path, prompt, temperature=1.0, max_tokens=12, seed=3)
            for path in (None, saved.sampler_path, None)
        ]
        assert drawn[0] == drawn[1] == drawn[2], "an adapter without a step is the base model"
        assert 1 <= len(drawn[0].tokens) <= 12
        scores = await drawer.score(saved.sampler_path, prompt, drawn[0].tokens)
        assert len(scores) == len(drawn[0].tokens)
        assert all(math.isfinite(score) and score < 0 for score in scores)
        assert scores == pytest.approx(await drawer.score(None, prompt, drawn[0].tokens), abs=1e-4)
        with pytest.raises(BackendError, match="examining a version"):
            await drawer.score("tinker://nobody/sampler_weights/x", prompt, (1,))


async def test_a_version_is_exported_as_the_files_that_peft_reads_and_only_to_a_new_folder(trainer, tmp_path):
    run = await real(trainer).open(None)
    saved = await run.save(f"export-{uuid.uuid4().hex}")
    await run.close()
    rl = RlSettings(remote_url=trainer.url, remote_api_key=SecretStr(API_KEY))
    settings, folder = Settings(home=tmp_path, rl=rl), tmp_path / "out" / "adapter"
    files = await asyncio.to_thread(download_adapter, settings, saved.sampler_path, folder)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(files)
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 4
    with pytest.raises(ConflictError, match="exists already"):
        await asyncio.to_thread(download_adapter, settings, saved.sampler_path, folder)
    with pytest.raises(BackendError, match="answered 404"):
        await asyncio.to_thread(download_adapter, settings, "tinker://nobody/sampler_weights/x", tmp_path / "none")
    assert not (tmp_path / "none").exists()
