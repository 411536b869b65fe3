"""The user comes back in the middle of an update: a real training server drops it, and makes it later."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import pytest

from metaclaw.config import SchedulerSettings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.train_steps import TrainSteps
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.extras import load_updater
from metaclaw.learner.updating import Updating
from metaclaw.learner.windows.assembly import looking_for
from metaclaw.learner.windows.watch import Windows
from tests.fakes.training_server import API_KEY, TrainingServer
from tests.learner.recording import Said, record
from tests.learner.talking import serving, talk
from tests.learner.test_end_to_end import learner_for, settings_for

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]


async def measured(session: aiohttp.ClientSession, trainer: TrainingServer, name: str) -> float:
    async with session.get(f"{trainer.url}/metrics", headers={"Authorization": f"Bearer {API_KEY}"}) as answer:
        found = re.search(rf"^{re.escape(name)} (\S+)$", await answer.text(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_a_request_in_the_middle_of_a_pass_ends_it_and_the_next_window_makes_the_update(tmp_path, trainer):
    settings = settings_for(tmp_path, trainer).model_copy(
        update={"mode": "auto", "scheduler": SchedulerSettings(idle_source="requests", resume_after_minutes=0)}
    )
    abandoned = 'metaclaw_jobs_total{op="forward_backward",outcome="abandoned"}'
    asked = TrainSteps(settings.requests_db)
    async with aiohttp.ClientSession() as session, TurnJournal(settings.turns_db) as turns:
        with LearningJournal.open(settings.learning_db) as journal:
            judging = learner_for(settings, journal).judging
            looking, _ = looking_for(settings, session)
            windows = Windows(conditions=looking, state_file=settings.scheduler_state, look_s=0.02)
            updater = load_updater(settings, journal)
            updating = Updating(journal=journal, training=updater, permission=windows, asked=asked)
            await talk(trainer, turns, serving(settings.learning_db, trainer), 16)
            await judging.step()
            before = await measured(session, trainer, abandoned)
            updater._live["main"] = (0, await updater._backend.open(None))  # whose making needs the engine too
            with trainer.suspended("engine"):
                training = asyncio.create_task(updating.step())
                while not await measured(session, trainer, "metaclaw_training_waiting_tokens"):  # noqa: ASYNC110 - asks a server
                    await asyncio.sleep(0.01)
                await record(turns, Said(turn="back", exchange="x-back", closed_at=None))
                assert not await training
            (status,) = read_status(settings.learning_db)
            assert status.last_update is not None
            assert (status.last_update.state, status.pending) == ("aborted", 16)
            assert status.last_update.reason == "the window closed: the agent was asked something 0 s ago"
            while await measured(session, trainer, abandoned) == before:  # noqa: ASYNC110 - asks a server
                await asyncio.sleep(0.01)
            assert not await updating.step(), "he still is there"
            number = asked.ask("main", now=0.0, until=1e12)
            assert await updating.step(), "asked for, it is made all the same"
            answer = asked.answered(number)
            assert answer is not None
            assert (answer.status, answer.step, answer.samples) == ("ok", 1, 16)
            await looking.close()
            await updater.close()
