"""What ``metaclaw policy`` has the training server do: answer held-out prompts, and give an adapter.

Owns these two conversations; refuses to know how their outcome is shown. Invariant: nothing is written outside the
folder that was named, and that did not exist before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metaclaw.config import Settings
from metaclaw.journal.policy_reader import TrainedExchanges
from metaclaw.learner.adapter_transfer import fetch
from metaclaw.learner.gate.answers import Drawn, EndpointDrawer
from metaclaw.learner.gate.questions import Question, Questions
from metaclaw.upstreams.configured import training_server
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.session import new_session


def answers_of(settings: Settings, agent: str, paths: Sequence[str | None], count: int) -> list[dict[str, Any]]:
    """Answers of all ``paths`` to the newest held-out prompts, drawn with the same seeds. Raises ``BackendError``."""
    trained = TrainedExchanges(settings.learning_db)
    questions = Questions(settings.turns_db, trained, settings.rl.gate).held_out(agent)[:count]

    async def ask() -> list[dict[str, Any]]:
        async with new_session() as session:
            drawer = EndpointDrawer(HttpModel(session, training_server(settings)))
            found: list[dict[str, Any]] = []
            for seed, question in enumerate(questions):
                drawn = [await _draw(drawer, path, question, seed) for path in paths]
                found.append({"prompt": question.exchange.prompt, "answers": [answer.text for answer in drawn]})
            return found

    return asyncio.run(ask())


async def _draw(drawer: EndpointDrawer, path: str | None, question: Question, seed: int) -> Drawn:
    return await drawer.draw(
        path, question.prompt, temperature=question.temperature, max_tokens=question.max_tokens, seed=seed
    )


def download_adapter(settings: Settings, path: str, folder: Path) -> list[str]:
    """Write the files of ``tinker://MODEL/KIND/NAME`` to the new ``folder``; return their names."""

    async def bring() -> list[str]:
        async with new_session() as session:
            return await fetch(session, settings.rl, path, folder)

    return asyncio.run(bring())
