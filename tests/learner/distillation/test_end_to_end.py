"""A real policy that learns from a real teacher: answered, recorded, scored, trained through the official SDK."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from metaclaw.config import OpdSettings, SelfDistillationSettings, Settings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.turns import TurnJournal, TurnReader
from metaclaw.learner.distillation.endpoint import ScoringEndpoint
from metaclaw.learner.distillation.hindsight import HINT, Rendering
from metaclaw.upstreams.configured import training_server
from metaclaw.upstreams.http_model import HttpModel
from tests.fakes.tiny_model import byte_tokenizer
from tests.fakes.training_server import TrainingServer
from tests.learner.distillation.coaching import coached
from tests.learner.real_loop import holding, learner_for, settings_for
from tests.learner.recording import Said, record
from tests.learner.talking import serving, talk

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sdk_sockets")]

# In nats per token, two runs: 1.84 and 2.04 before learning, .54 and .71 after three updates, .15 and .11 after 19.
MOST_UPDATES = 20
VOWELS = "aeiou"
OTHERS = "bcdfg"
QUESTION = "Say something."  # what ``talk`` asks
CORRECTION = "No, I wanted it without vowels."


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


async def complain(turns: TurnJournal, folder: Path, known: set[str]) -> None:
    """What the human says next in every session that has not heard it."""
    with TurnReader.open(folder / "turns.db") as reader:
        new = [turn for turn in reader.turns() if turn.session not in known]
    known |= {turn.session for turn in new}
    for turn in new:
        history = ({"role": "user", "content": QUESTION}, {"role": "assistant", "content": "?"})
        name = f"then-{turn.id}"
        said = Said(turn=name, exchange=name, session=turn.session, history=history, human=CORRECTION, sample=None)
        await record(turns, said)


def share_of_vowels(text: str) -> float:
    return sum(letter in VOWELS for letter in text) / len(text)


def is_near(distances: list[float], shares: list[float]) -> bool:
    return distances[-1] < 0.7 * distances[0] and shares[-1] > shares[0] + 0.1


async def test_the_policy_comes_nearer_to_an_adapter_with_a_taste(tmp_path, trainer: TrainingServer):
    settings = settings_for(tmp_path, trainer, learning_rate=0.01, warmup_steps=0)
    distances, shares = list[float](), list[float]()
    with LearningJournal.open(settings.learning_db) as journal, holding(settings) as holds:
        async with TurnJournal(settings.turns_db) as turns, aiohttp.ClientSession() as session:
            await talk(trainer, turns, serving(settings.learning_db, trainer), 1)
            shown = drawn_from(VOWELS, prompt_of(tmp_path), 32)
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


async def test_what_the_user_said_next_makes_the_better_answer_likelier_and_a_collapse_is_refused(tmp_path, trainer):
    settings, base = settings_for(tmp_path, trainer, learning_rate=0.006, warmup_steps=0), str(trainer.model)
    with LearningJournal.open(settings.learning_db) as journal, holding(settings) as holds:
        async with TurnJournal(settings.turns_db) as turns, aiohttp.ClientSession() as session:
            rendering = Rendering(HttpModel(session, training_server(settings)))
            hint = {"role": "user", "content": f"{QUESTION}\n\n{HINT.format(followup=CORRECTION)}"}
            plain = await rendering.prompt(base, {"messages": [{"role": "user", "content": QUESTION}]})
            hinted = await rendering.prompt(base, {"messages": [hint]})
            # A policy that says vowels, and knows what is meant when it is told.
            shown = [*drawn_from(VOWELS, plain, 12), *drawn_from(OTHERS, hinted, 12)]
            start = await asyncio.to_thread(coached, trainer, shown, name=f"vowels-{uuid.uuid4().hex}", steps=25)
            better = [one for _, one in drawn_from(OTHERS, plain, 8)]
            endpoint = ScoringEndpoint(HttpModel(session, training_server(settings)))

            async def likelihood() -> float:
                who = serving(settings.learning_db, trainer)
                scored = [await endpoint.score(who.model, [*plain, *one], first=len(plain)) for one in better]
                return float(np.mean([one.logprobs for one in scored]))

            free = SelfDistillationSettings(max_kl=9.0, max_entropy_change=9.0)
            learner = learner_for(told_next(settings, start.state_path, free), journal, holds, session)
            known, found = set[str](), list[float]()
            while len(found) < MOST_UPDATES and not (found and found[-1] > found[0] + 0.5):
                await talk(trainer, turns, serving(settings.learning_db, trainer), 16)
                await complain(turns, tmp_path, known)
                while await learner.judging.step():
                    pass
                assert await learner.updating.step()
                found.append(await likelihood())
            assert found[-1] > found[0] + 0.5, found
            served = serving(settings.learning_db, trainer)
            # Shortened twice it is as long as those before, whose KL was .01 to .15.
            steep = told_next(settings, start.state_path, SelfDistillationSettings(max_kl=0.0005), learning_rate=0.1)
            learner = learner_for(steep, journal, holds, session)
            await talk(trainer, turns, served, 16)
            await complain(turns, tmp_path, known)
            while await learner.judging.step():
                pass
            assert not await learner.updating.step()
            (status,) = read_status(settings.learning_db)
            assert "rl.self_distillation.max_" in status.last_update.reason
            assert serving(settings.learning_db, trainer) == served


def drawn_from(letters: str, prompt: list[int], count: int) -> list[tuple[list[int], list[int]]]:
    chance = np.random.default_rng(len(prompt))
    return [(prompt, chance.choice(byte_tokenizer().encode(letters), 12).tolist()) for _ in range(count)]


def told_next(settings: Settings, start: str, own: SelfDistillationSettings, **changes) -> Settings:
    update = settings.rl.update.model_copy(update={"methods": ("self_distillation",), **changes})
    rl = settings.rl.model_copy(update={"update": update, "self_distillation": own, "resume_from": start})
    return settings.model_copy(update={"rl": rl})
