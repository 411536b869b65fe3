"""Training servers that are away, strangers, silent or dying: an error that says what to do, and soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web

from metaclaw.config import RlSettings, UpdateSettings
from metaclaw.errors import BackendError
from metaclaw.learner.backends import patience, tinker_sdk
from metaclaw.learner.backends.backend import RefusedDataError
from metaclaw.learner.datums import DatumGroup, TrainingTurn, build_groups
from metaclaw.learner.extras import load_backend
from tests.learner.recording import policy_sample

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[tuple[str, web.AppRunner]]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", runner
    finally:
        await runner.cleanup()


def backend(url: str, *, timeout_s: float = 30.0):
    return load_backend(
        RlSettings(remote_url=url, remote_api_key="secret", remote_timeout_s=timeout_s, model="tiny", lora_rank=4)
    )


async def session_routes(request: web.Request) -> web.StreamResponse:
    """A server up to the point where a model is made."""
    if request.path.endswith("create_session"):
        return web.json_response({"session_id": "s"})
    if request.path.endswith("client/dynamic_config"):
        return web.json_response({"detail": "not found"}, status=404)
    return web.json_response({})


async def test_nobody_at_the_url_is_an_error_at_once_not_after_five_minutes(unused_tcp_port_url):
    started = time.monotonic()
    with pytest.raises(BackendError, match=r"no training server answers.*rl\.remote_url"):
        await backend(unused_tcp_port_url).open(None)
    assert time.monotonic() - started < 60  # the import of the SDK is in it


async def test_another_key_names_the_setting_and_never_the_key():
    keys = list[str]()

    async def refuse(request: web.Request) -> web.StreamResponse:
        keys.append(request.headers.get("X-API-Key", ""))
        return web.json_response({"detail": "invalid key"}, status=401)

    async with server(refuse) as (url, _):
        with pytest.raises(BackendError, match=r"rl\.remote_api_key") as caught:
            await backend(url).open(None)
    assert "secret" not in str(caught.value)
    assert set(keys) == {"tml-secret"}, "the SDK's prefix is ours to add"


async def test_a_server_that_never_answers_is_given_up_after_the_timeout():
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.json_response({})

    async with server(hang) as (url, _):
        with pytest.raises(BackendError, match=r"rl\.remote_timeout_s: 1 s"):
            await backend(url, timeout_s=1.0).open(None)


async def test_a_server_that_only_fails_is_given_up_after_the_timeout():
    """The SDK retries 5xx for five minutes; the learner must not."""

    async def fail(request: web.Request) -> web.StreamResponse:
        return web.json_response({"detail": "boom"}, status=500)

    async with server(fail) as (url, _):
        with pytest.raises(BackendError):
            await backend(url, timeout_s=1.0).open(None)


async def test_a_server_that_dies_while_we_wait_is_noticed(monkeypatch):
    monkeypatch.setattr(tinker_sdk, "PROBE_EVERY_S", 0.2)
    asked = asyncio.Event()

    async def die_at_create_model(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("create_model"):
            return await session_routes(request)
        asked.set()
        await asyncio.sleep(60)
        return web.json_response({})

    async with server(die_at_create_model) as (url, runner):
        opening = asyncio.create_task(backend(url, timeout_s=60.0).open(None))
        await asked.wait()
        await runner.cleanup()
        with pytest.raises(BackendError, match="no training server answers"):
            await opening


async def test_a_failed_job_is_told_with_its_reason():
    async def fail_the_job(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("create_model"):
            return web.json_response({"request_id": "r"})
        if request.path.endswith("retrieve_future"):
            return web.json_response({"error": "out of memory", "category": "server"})
        return await session_routes(request)

    async with server(fail_the_job) as (url, _):
        with pytest.raises(BackendError, match="out of memory"):
            await backend(url).open(None)


async def test_what_a_server_said_is_told_in_its_own_words_alone():
    """`metaclaw status` prints it: the answer twice as a dict, or the SDK's ids and classes, hid what was wrong."""

    async def fail_the_job(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("create_model"):
            return web.json_response({"request_id": "r"})
        if request.path.endswith("retrieve_future"):
            return web.json_response({"error": "of another base model", "category": "user"})
        return await session_routes(request)

    async def refuse(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("create_model"):
            said = "base model 'tiny' is not served here"
            return web.json_response({"error": said, "detail": said, "category": "user"}, status=400)
        return await session_routes(request)

    for handler, said in ((fail_the_job, "of another base model"), (refuse, "base model 'tiny' is not served here")):
        async with server(handler) as (url, _):
            with pytest.raises(BackendError) as raised:
                await backend(url).open(None)
        assert str(raised.value).endswith(f": {said}")


def training_server(failing: str, category: str) -> Handler:
    """A server that finishes every job, but those sent to ``failing`` with an error of ``category``."""

    async def handle(request: web.Request) -> web.StreamResponse:
        route = request.path.rsplit("/", 1)[-1]
        if route in ("create_model", "forward_backward", "optim_step", "save_weights"):
            return web.json_response({"request_id": route})
        if route == "get_info":
            return web.json_response({"model_id": "m", "model_data": {"model_name": "tiny"}})
        if route != "retrieve_future":
            return await session_routes(request)
        asked = (await request.json())["request_id"]
        if asked == failing:
            return web.json_response({"error": "no good", "category": category})
        return web.json_response({"model_id": "m"})

    return handle


@pytest.mark.parametrize(
    ("call", "category", "is_refused"),
    [
        ("forward_backward", "user", True),
        ("forward_backward", "server", False),
        ("forward", "user", True),
        ("optim_step", "user", False),
        ("save_weights", "user", False),
    ],
)
async def test_only_data_that_a_pass_refused_is_refused_data(call, category, is_refused):
    """Whatever else was refused, the samples are good: spending them would lose them."""
    sample = policy_sample([1, 2], [3], [-1.0])
    groups = build_groups([TrainingTurn(turn="t", sample=sample, surprise=1.0)], UpdateSettings())
    route = "forward_backward" if call == "forward" else call  # the SDK's one route for both passes
    async with server(training_server(route, category)) as (url, _):
        run = await backend(url).open(None)
        calls = {
            "forward_backward": lambda: run.forward_backward(groups),
            "forward": lambda: run.forward(groups),
            "optim_step": lambda: run.optim_step(learning_rate=0.1, grad_clip_norm=1.0),
            "save_weights": lambda: run.save("name"),
        }
        with pytest.raises(BackendError, match="no good") as raised:
            await calls[call]()
        assert isinstance(raised.value, RefusedDataError) is is_refused
        await run.close()


async def test_a_state_that_cannot_be_resumed_spends_no_samples():
    async with server(training_server("create_model", "user")) as (url, _):
        with pytest.raises(BackendError, match="no good") as raised:
            await backend(url).open(None)
    assert not isinstance(raised.value, RefusedDataError)


@pytest.fixture
def unused_tcp_port_url() -> str:
    # Port 9 (discard) is refused on any machine that tests run on.
    return "http://127.0.0.1:9"


async def test_a_pass_is_waited_for_as_much_longer_as_it_has_more_tokens(monkeypatch):
    """With one time for every pass, a trainer that is slow would fail at the same large update for ever."""
    monkeypatch.setattr(patience, "TOKENS_AT_ONCE", 100)
    given = list[float]()

    async def called(submit, *, timeout_s: float):
        given.append(timeout_s)
        raise TimeoutError

    monkeypatch.setattr(tinker_sdk, "call_in_thread", called)
    turns = [
        TrainingTurn(turn=str(place), sample=policy_sample([1] * 99, [2] * 51, [-1.0] * 51), surprise=1.0)
        for place in range(2)
    ]
    async with server(session_routes) as (url, _):
        link = tinker_sdk.Link(url=url, api_key="k", timeout_s=7.0)
        run = tinker_sdk.TinkerRun(link, cast(Any, None), cast(Any, Client()))
        for some in (turns, turns[:0]):
            for submit in (run.forward, run.forward_backward):
                with pytest.raises(BackendError, match=r"took longer than .* s \(rl\.remote_timeout_s: 7 s for"):
                    await submit(build_groups(some, UpdateSettings()) or [EMPTY])
    assert given == pytest.approx([7 * 2 * 149 / 100] * 2 + [7.0] * 2)


class Client:
    """As far as it goes before its calls are made."""

    forward = forward_backward = None


EMPTY = DatumGroup(loss="ppo", config={}, data=())
