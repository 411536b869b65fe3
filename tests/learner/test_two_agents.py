"""Two agents on one training server: what one learns, the other does not."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import aiohttp
import pytest

from metaclaw.config import AgentsSettings
from metaclaw.journal.database import open_reader
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.turns import TurnJournal
from tests.fakes.training_server import API_KEY, TrainingServer
from tests.learner.real_loop import holding, learner_for, settings_for
from tests.learner.talking import Serving, serving, talk

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]

TASTES = "tests.fakes.verifiers:case_of_its_agent"
LOUD, QUIET = 0.75, 0.25
BUSY_UPDATES, MOST_UPDATES = 4, 30
TABLES = ("versions", "serving", "samples", "judgements", "updates")


async def test_training_one_agent_moves_another_by_not_one_bit(tmp_path: Path, trainer: TrainingServer) -> None:
    settings = settings_for(tmp_path, trainer, warmup_steps=0)
    with LearningJournal.open(settings.learning_db) as journal, holding(settings) as holds:
        async with TurnJournal(settings.turns_db) as turns:
            learner = learner_for(settings, journal, holds)
            for agent in ("idle", "busy"):
                await talk(trainer, turns, serving(settings.learning_db, trainer, agent), 16, agent=agent)
            await learner.judging.step()
            assert await learner.updating.step()
            before = await _everything_of("idle", settings.learning_db, trainer)
            busy = serving(settings.learning_db, trainer, "busy")
            moved = {_files(trainer, busy.model)}
            for _ in range(BUSY_UPDATES):
                await talk(trainer, turns, busy, 16, agent="busy")
                await learner.judging.step()
                assert await learner.updating.step()
                busy = serving(settings.learning_db, trainer, "busy")
                moved.add(_files(trainer, busy.model))
            after = await _everything_of("idle", settings.learning_db, trainer)
    assert len(moved) == BUSY_UPDATES + 1, "the busy one moved at every update"
    assert after == before


async def test_two_ranks_are_trained_and_served_side_by_side(tmp_path: Path, trainer: TrainingServer) -> None:
    """What `agents.ID.lora.rank` says; that neither moves the other by a bit is in the training server's tests."""
    settings = settings_for(tmp_path, trainer, warmup_steps=0)
    agents = AgentsSettings.model_validate({"narrow": {"lora": {"rank": 2}}, "wide": {"lora": {"rank": 16}}})
    settings = settings.model_copy(update={"agents": agents})
    with LearningJournal.open(settings.learning_db) as journal, holding(settings) as holds:
        async with TurnJournal(settings.turns_db) as turns:
            learner = learner_for(settings, journal, holds)
            for agent in ("narrow", "wide"):
                await talk(trainer, turns, serving(settings.learning_db, trainer, agent), 16, agent=agent)
            await learner.judging.step()
            assert await learner.updating.step()
    served = [serving(settings.learning_db, trainer, agent) for agent in ("narrow", "wide")]
    assert [who.version for who in served] == [1, 1]
    assert [_rank(trainer, who.model) for who in served] == [2, 16]
    together = await asyncio.gather(*(_greedy(trainer, who) for who in served))
    assert together == [await _greedy(trainer, who) for who in served]


async def test_two_agents_with_opposite_tastes_each_learn_their_own(tmp_path: Path, trainer: TrainingServer) -> None:
    settings = settings_for(tmp_path, trainer, verifier=TASTES, learning_rate=0.006, max_exchanges=64)
    shares = dict[str, list[float]](loud=[], quiet=[])
    with LearningJournal.open(settings.learning_db) as journal, holding(settings) as holds:
        async with TurnJournal(settings.turns_db) as turns:
            learner = learner_for(settings, journal, holds)
            for _ in range(MOST_UPDATES):
                for agent, history in shares.items():
                    who = serving(settings.learning_db, trainer, agent)
                    history.append(_share_of_capitals(await talk(trainer, turns, who, 64, agent=agent)))
                if shares["loud"][-1] > LOUD and shares["quiet"][-1] < QUIET:
                    break
                while await learner.judging.step():
                    pass
                assert await learner.updating.step()
    assert shares["loud"][-1] > LOUD, shares["loud"]
    assert shares["quiet"][-1] < QUIET, shares["quiet"]


def _share_of_capitals(answers: list[str]) -> float:
    """Of the letters."""
    capitals, smalls = (sum(first <= c <= last for c in "".join(answers)) for first, last in ("AZ", "az"))
    return capitals / max(1, capitals + smalls)


async def _everything_of(agent: str, learning_db: Path, trainer: TrainingServer) -> dict[str, object]:
    """Its rows in the learner's journal, the hash of its adapter's files, and what it answers without chance."""
    who = serving(learning_db, trainer, agent)
    return {
        "rows": _rows(agent, learning_db),
        "files": _files(trainer, who.model),
        "answer": await _greedy(trainer, who),
    }


def _rows(agent: str, learning_db: Path) -> dict[str, list[tuple]]:
    connection = open_reader(learning_db)
    rows = {name: connection.execute(f"SELECT * FROM {name} WHERE agent = ?", (agent,)).fetchall() for name in TABLES}
    connection.close()
    return rows


def _files(trainer: TrainingServer, path: str) -> str:
    """The hash of what the training server keeps of the version served at ``path``, optimiser state included."""
    name = path.rsplit("/", 1)[-1]
    root = trainer.data_dir / "checkpoints"
    files = sorted(file for folder in root.glob(f"*/*/{name}") for file in folder.iterdir())
    assert {file.name for file in files} >= {"adapter_model.safetensors", "optimizer.safetensors"}
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def _rank(trainer: TrainingServer, path: str) -> int:
    kind, name = path.split("/")[-2:]
    (config,) = (trainer.data_dir / "checkpoints").glob(f"*/{kind}/{name}/adapter_config.json")
    return json.loads(config.read_text())["r"]


async def _greedy(trainer: TrainingServer, who: Serving) -> list[object]:
    body = {
        "model": who.model, "max_tokens": 24, "temperature": 0, "return_policy_record": True,
        "messages": [{"role": "user", "content": "Say something."}],
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{trainer.url}/v1/chat/completions", json=body) as response,
    ):
        answer = json.loads(await response.read())
    record = answer["choices"][0].get("policy_record") or answer["policy_record"]
    return [answer["choices"][0]["message"]["content"], record["tokens"]]
