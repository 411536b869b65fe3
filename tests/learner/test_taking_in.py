"""An agent that was exported in one home and imported in another serves and goes on training from where it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from typer.testing import CliRunner

from metaclaw.cli.main import app
from metaclaw.config import Settings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.policy_reader import read_policies
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.adapter_transfer import STATE_FILES
from metaclaw.learner.extras import load_backend
from metaclaw.learner.jobs import Patience
from metaclaw.learner.outcomes import Waiting
from metaclaw.learner.taking_in import NotBefore, TakingIn
from metaclaw.training.checkpoints import verify
from tests.fakes.training_server import API_KEY, TrainingServer
from tests.learner.real_loop import holding, learner_for, settings_for
from tests.learner.talking import serving, talk

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]


async def test_an_imported_agent_serves_and_trains_on_from_where_it_was(
    tmp_path: Path, trainer: TrainingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = home(tmp_path / "here", trainer), home(tmp_path / "there", trainer)
    archive = str(tmp_path / "busy.tar.gz")
    async with learning(here) as (journal, turns, learner):
        await one_update(here, trainer, turns, learner, "busy")
        first, baseline = journal.version("busy", 1), journal.baseline("busy")
    said = await command(monkeypatch, here.home, "export", "busy", archive)
    assert said["left_out"] == []
    said = await command(monkeypatch, there.home, "import", archive, "--as", "copy")
    assert "waits in" in said["notes"][0]
    assert [one["agent"] for one in await command(monkeypatch, there.home, "list")] == ["copy"]
    async with learning(there) as (journal, turns, learner), taking_in(there, journal) as job:
        assert job.waits("copy")
        assert await job.step()
        assert not job.waits("copy")
        assert not await job.step()
        taken = journal.version("copy", 1)
        for one, other in ((first.state_path, taken.state_path), (first.sampler_path, taken.sampler_path)):
            assert files(trainer, one) == files(trainer, other)
        assert (journal.serving("copy"), journal.baseline("copy")) == (1, baseline)
        await one_update(there, trainer, turns, learner, "copy")
        assert journal.version("copy", 2).parent == 1
        all_steps = steps(trainer, first.state_path) + there.rl.update.num_steps
        assert steps(trainer, journal.version("copy", 2).state_path) == all_steps
    assert not (there.imported_adapters / "copy").exists()


async def test_while_no_training_server_answers_the_adapter_waits_and_nothing_comes_before_it(
    tmp_path: Path, trainer: TrainingServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = home(tmp_path, trainer, remote_url="http://127.0.0.1:1")
    waiting(settings, "later")
    async with learning(settings) as (journal, _, _), taking_in(settings, journal) as job:
        assert not await job.step()
        assert job.waits("later")
        assert "next attempt" in caplog.text
        asked = await NotBefore().run("later", _never(), is_asked=True)
        assert isinstance(asked, Waiting)
        assert journal.versions("later") == []


async def test_an_adapter_that_the_server_refuses_is_said_and_kept_and_no_longer_waited_for(
    tmp_path: Path, trainer: TrainingServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = home(tmp_path, trainer)
    waiting(settings, "odd")
    waiting(settings, "Not An Agent")
    async with learning(settings) as (journal, _, _), taking_in(settings, journal) as job:
        assert not await job.step()
        assert not job.waits("odd")
        assert "refused" in caplog.text
        assert journal.versions("odd") == []
        assert (settings.imported_adapters / "odd" / STATE_FILES[0]).exists()
        assert read_policies(settings.learning_db, now=0.0, agent="odd") == []


def home(folder: Path, trainer: TrainingServer, **rl: str) -> Settings:
    """A home in mode ``rl`` on ``trainer``, with a file that says so to commands too."""
    folder.mkdir(exist_ok=True)
    settings = settings_for(folder, trainer, warmup_steps=0)
    url = rl.get("remote_url", trainer.url)
    (folder / "config.yaml").write_text(f"mode: rl\nrl: {{remote_url: '{url}', remote_api_key: {API_KEY}}}\n")
    return settings.model_copy(update={"rl": settings.rl.model_copy(update=rl)})


@asynccontextmanager
async def learning(settings: Settings) -> AsyncIterator:
    with LearningJournal.open(settings.learning_db) as journal, holding(settings) as holds:
        async with TurnJournal(settings.turns_db) as turns:
            yield journal, turns, learner_for(settings, journal, holds)


@asynccontextmanager
async def taking_in(settings: Settings, journal: LearningJournal) -> AsyncIterator[TakingIn]:
    async with aiohttp.ClientSession() as session:
        yield TakingIn(
            journal=journal, session=session, settings=settings, backend=load_backend(settings.rl),
            patience=Patience(first_s=0),
        )  # fmt: skip


async def one_update(settings: Settings, trainer: TrainingServer, turns: TurnJournal, learner, agent: str) -> None:
    await talk(trainer, turns, serving(settings.learning_db, trainer, agent), 16, agent=agent)
    await learner.judging.step()
    assert await learner.updating.step()


async def command(monkeypatch: pytest.MonkeyPatch, place: Path, *arguments: str):
    monkeypatch.setenv("METACLAW_HOME", str(place))
    done = await asyncio.to_thread(CliRunner().invoke, app, ["agents", *arguments, "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def waiting(settings: Settings, agent: str) -> None:
    """An adapter that nobody would take."""
    folder = settings.imported_adapters / agent
    folder.mkdir(parents=True)
    for name in STATE_FILES:
        (folder / name).write_bytes(b"{}")


def files(trainer: TrainingServer, path: str) -> dict:
    """What the training server keeps under a path, by the digests of its files."""
    return verify(place_of(trainer, path)).files


def steps(trainer: TrainingServer, path: str) -> int:
    return verify(place_of(trainer, path)).step


def place_of(trainer: TrainingServer, path: str) -> Path:
    kind, name = path.split("/")[-2:]
    (found,) = (trainer.data_dir / "checkpoints").glob(f"*/{kind}/{name}")
    return found


async def _never() -> Waiting:
    raise AssertionError("it was begun")
