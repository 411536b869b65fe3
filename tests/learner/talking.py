"""Turns that a real policy answers: sampled at the training server's endpoint, recorded as the gateway does."""

from __future__ import annotations

import asyncio
import base64
import uuid
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from metaclaw.journal.database import open_reader
from metaclaw.journal.learning_status import read_status
from metaclaw.journal.turns import PolicySample, TurnJournal
from tests.fakes.training_server import API_KEY, TrainingServer
from tests.learner.recording import Said, record

_PLAIN = ("model", "temperature", "top_p", "top_k", "seed", "stop_reason", "renderer")
_QUESTION = "Say something."


@dataclass(frozen=True, slots=True)
class Serving:
    """What the gateway asks for: version 0 is the base model under its own name."""

    version: int
    model: str


def serving(learning_db: Path, trainer: TrainingServer, agent: str = "main") -> Serving:
    """The version that serves, read as the gateway reads it."""
    if read_status(learning_db):
        connection = open_reader(learning_db)
        row = connection.execute(
            "SELECT version, sampler_path FROM serving JOIN versions USING (agent, version) WHERE agent = ?", (agent,)
        ).fetchone()
        connection.close()
        if row is not None:
            return Serving(*row)
    return Serving(0, str(trainer.model))


async def talk(
    trainer: TrainingServer,
    journal: TurnJournal,
    who: Serving,
    count: int,
    *,
    temperature: float = 1.0,
    agent: str = "main",
    seed: int | None = None,
) -> list[str]:
    """Let ``who`` answer ``count`` sessions of ``agent`` at once, record them, and return the answers.

    With ``seed`` they are the same each time.
    """
    seeds = [None if seed is None else seed + number for number in range(count)]
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        return await asyncio.gather(*(_turn(session, trainer, journal, who, temperature, agent, one) for one in seeds))


async def _turn(
    session: aiohttp.ClientSession,
    trainer: TrainingServer,
    journal: TurnJournal,
    who: Serving,
    temperature: float,
    agent: str,
    seed: int | None,
) -> str:
    body = {
        "model": who.model, "max_tokens": 12, "temperature": temperature, "return_policy_record": True,
        "messages": [{"role": "user", "content": _QUESTION}], **({} if seed is None else {"seed": seed}),
    }  # fmt: skip
    async with session.post(f"{trainer.url}/v1/chat/completions", json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
    choice, name = answer["choices"][0], uuid.uuid4().hex
    sample = _sample(answer["policy_record"], who, agent)
    said = Said(
        turn=name, exchange=f"x{name}", session=name, agent=agent, human=_QUESTION, answer=choice["message"]["content"],
        finish_reason=choice["finish_reason"], sample=sample,
    )  # fmt: skip
    await record(journal, said)
    return said.answer


def _sample(recorded: dict, who: Serving, agent: str) -> PolicySample:
    arrays = {
        name: base64.b64decode(recorded[name]) for name in ("prompt_tokens", "tokens", "logprobs", "logprobs_full")
    }
    plain = {
        name: recorded[name] for name in ("model", "temperature", "top_p", "top_k", "seed", "stop_reason", "renderer")
    }
    spans = tuple((kind, start, end) for kind, start, end in recorded["spans"])
    return PolicySample(agent=agent, version=who.version, spans=spans, **arrays, **plain)
