"""The user comes back in the middle of an update: a real training server drops it, and makes it later."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from typing import cast

import aiohttp
import pytest
from pydantic import SecretStr

from metaclaw.config import ProxySettings, SchedulerSettings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.train_steps import TrainSteps
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.update import Updater
from metaclaw.learner.updating import Updating
from metaclaw.learner.windows.assembly import looking_for
from metaclaw.learner.windows.watch import Windows
from tests.fakes.training_server import API_KEY, TrainingServer
from tests.gateway.running import TOKEN, RunningGateway, running_gateway
from tests.learner.real_loop import holding, learner_for, settings_for
from tests.learner.talking import serving, talk

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]


async def measured(session: aiohttp.ClientSession, trainer: TrainingServer, name: str) -> float:
    async with session.get(f"{trainer.url}/metrics", headers={"Authorization": f"Bearer {API_KEY}"}) as answer:
        found = re.search(rf"^{re.escape(name)} (\S+)$", await answer.text(), re.MULTILINE)
    return float(found[1]) if found else 0.0


ABANDONED = 'metaclaw_jobs_total{op="forward_backward",outcome="abandoned"}'
WAITING = "metaclaw_training_waiting_tokens"


async def test_a_request_in_the_middle_of_a_pass_is_answered_and_ends_it(tmp_path, trainer):
    """The engine hangs meanwhile: serving waits for training at no time, and the stop not for the engine."""
    settings = settings_for(tmp_path, trainer).model_copy(
        update={
            "mode": "auto",
            "proxy": ProxySettings(api_key=SecretStr(TOKEN)),
            "scheduler": SchedulerSettings(
                idle_source="requests", resume_after_minutes=0, sleep_start="00:00", sleep_end="00:00"
            ),
        }
    )
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        journal = stack.enter_context(LearningJournal.open(settings.learning_db))
        async with TurnJournal(settings.turns_db) as turns:
            await talk(trainer, turns, serving(settings.learning_db, trainer), 16)
        learner = learner_for(settings, journal, stack.enter_context(holding(settings)))
        await learner.judging.step()
        looking, _ = looking_for(settings, session)
        stack.push_async_callback(looking.close)
        windows = Windows(conditions=looking, state_file=settings.scheduler_state, look_s=0.02)
        updater = cast(Updater, learner.updating._training)
        stack.push_async_callback(updater.close)
        asked = TrainSteps(settings.requests_db)
        updating = Updating(journal=journal, training=updater, permission=windows, asked=asked)
        before = await measured(session, trainer, ABANDONED)
        await updater._live.opened("main", 0, None)  # whose making needs the engine too
        async with running_gateway(settings) as gateway:
            with trainer.suspended("engine"):
                training = asyncio.create_task(updating.step())
                while not await measured(session, trainer, WAITING):  # noqa: ASYNC110 - asks a server
                    await asyncio.sleep(0.01)
                await streamed(gateway, "side")
                assert windows.state == "updating", "what a program does by itself is nobody's return"
                await streamed(gateway, "main")
                assert not await training
            (status,) = read_status(settings.learning_db)
            assert status.last_update is not None
            assert (status.last_update.state, status.pending) == ("aborted", 16)
            assert status.last_update.reason is not None
            assert status.last_update.reason.startswith("the window closed: ")
            # Whether the look fell into the answer or came after it.
            assert (
                "the agent was asked something" in status.last_update.reason
                or "the user is idle for" in status.last_update.reason
            )
            while await measured(session, trainer, ABANDONED) == before:  # noqa: ASYNC110 - asks a server
                await asyncio.sleep(0.01)
            assert not await updating.step(), "he was there a moment ago"
            number = asked.ask("main", now=0.0, until=1e12)
            assert await updating.step(), "asked for, it is made all the same"
            answer = asked.answered(number)
            assert answer is not None
            assert (answer.status, answer.step, answer.samples) == ("ok", 1, 16)


async def streamed(gateway: RunningGateway, kind: str) -> None:
    """An answer of the policy through the gateway, to its end."""
    messages = [{"role": "user", "content": "Say something."}]
    body = {"model": "metaclaw", "stream": True, "max_tokens": 12, "messages": messages}
    async with gateway.post(body, **{"X-Turn-Type": kind}) as answer:
        assert answer.status == 200
        assert (await answer.text()).rstrip().endswith("[DONE]")
