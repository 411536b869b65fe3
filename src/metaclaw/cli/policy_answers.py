"""What ``metaclaw policy`` has the training server do: answer held-out prompts, and give an adapter.

Owns these two conversations; refuses to know how their outcome is shown. Invariant: nothing is written outside the
folder that was named, and that did not exist before.
"""

from __future__ import annotations

import asyncio
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp

from metaclaw.config import Settings
from metaclaw.errors import BackendError, ConflictError
from metaclaw.journal.policy_reader import TrainedExchanges
from metaclaw.learner.gate.answers import Drawn, EndpointDrawer
from metaclaw.learner.gate.questions import Question, Questions
from metaclaw.upstreams.configured import training_server
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.session import new_session

_CHUNK = 1 << 20


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


def download_adapter(settings: Settings, sampler_path: str, folder: Path) -> list[str]:
    """Write the files of ``tinker://MODEL/sampler_weights/NAME`` to ``folder``; return their names."""
    if folder.exists():
        raise ConflictError(f"{folder} exists already; name a folder that does not")
    model, kind, name = sampler_path.removeprefix("tinker://").split("/", 2)
    url = f"{settings.rl.remote_url}/api/v1/training_runs/{model}/checkpoints/{kind}/{name}/archive"
    with tempfile.TemporaryFile() as packed:

        async def fetch() -> None:
            key = settings.rl.remote_api_key.get_secret_value()
            async with new_session() as session, session.get(url, headers={"X-API-Key": key}) as answer:
                if answer.status != 200:
                    raise BackendError(f"{settings.rl.remote_url} answered {answer.status} for {sampler_path}")
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    packed.write(chunk)

        try:
            asyncio.run(fetch())
        except aiohttp.ClientError as error:
            raise BackendError(f"{settings.rl.remote_url} cannot be asked: {error}") from error
        packed.seek(0)
        folder.mkdir(parents=True)
        with closing(tarfile.open(fileobj=packed, mode="r:gz")) as archive:
            archive.extractall(folder, filter="data")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
