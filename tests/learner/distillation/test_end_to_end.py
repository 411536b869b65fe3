"""A real policy that learns from a real teacher: answered, recorded, scored, trained through the official SDK."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from metaclaw.config import OpdSettings, Settings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.turns import TurnJournal, TurnReader
from tests.fakes.tiny_model import byte_tokenizer
from tests.fakes.training_server import TrainingServer
from tests.learner.distillation.coaching import coached
from tests.learner.real_loop import holding, learner_for, settings_for
from tests.learner.talking import serving, talk

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]

# In nats per token, two runs: 1.84 and 2.04 before learning, .54 and .71 after four updates, .15 and .11 after twenty.
MOST_UPDATES = 20
VOWELS = "aeiou"


def taught_by(settings: Settings, model: str) -> Settings:
    update = settings.rl.update.model_copy(update={"methods": ("opd",)})
    rl = settings.rl.model_copy(update={"update": update, "opd": OpdSettings(model=model)})
    return settings.model_copy(update={"rl": rl})


def prompt_of(folder: Path) -> list[int]:
    """What the policy saw at its first turn: every conversation here begins with the same words."""
    with TurnReader.open(folder / "turns.db") as reader:
        sample = reader.sample(reader.turns()[0].id)
    assert sample is not None
    return np.frombuffer(sample.prompt_tokens, "<i4").tolist()


def share_of_vowels(text: str) -> float:
    return sum(letter in VOWELS for letter in text) / len(text)


def is_near(distances: list[float], shares: list[float]) -> bool:
    return distances[-1] < distances[0] / 2 and shares[-1] > shares[0] + 0.2


async def test_the_policy_comes_nearer_to_an_adapter_with_a_taste(tmp_path, trainer: TrainingServer):
    settings = settings_for(tmp_path, trainer, learning_rate=0.01, warmup_steps=0)
    distances, shares = list[float](), list[float]()
    with LearningJournal.open(settings.learning_db) as journal, holding(settings) as holds:
        async with TurnJournal(settings.turns_db) as turns, aiohttp.ClientSession() as session:
            await talk(trainer, turns, serving(settings.learning_db, trainer), 1)
            chance, prompt = np.random.default_rng(5), prompt_of(tmp_path)
            shown = [(prompt, chance.choice(byte_tokenizer().encode(VOWELS), 12).tolist()) for _ in range(64)]
            teacher = await asyncio.to_thread(coached, trainer, shown, name=f"taste-{uuid.uuid4().hex}", steps=30)
            learner = learner_for(taught_by(settings, teacher.sampler_path), journal, holds, session)
            while len(distances) < MOST_UPDATES and not (distances and is_near(distances, shares)):
                answers = await talk(trainer, turns, serving(settings.learning_db, trainer), 32, temperature=0.9)
                shares.append(share_of_vowels("".join(answers)))
                await learner.judging.step()
                assert await learner.updating.step()
                metrics = read_status(settings.learning_db)[0].last_update.metrics
                distances.append(metrics["opd/kl"])
                assert metrics["opd/untaught_turns"] == 0
                assert metrics["opd/teacher_tokens"] > metrics["num_tokens"]
    assert is_near(distances, shares), (distances, shares)
