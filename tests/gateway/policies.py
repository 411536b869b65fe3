"""The gateway before the policies of a training server (the real one is tested with the programs together)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from metaclaw.config import Settings
from metaclaw.journal.database import open_writer
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import NewVersion
from metaclaw.journal.turns import PolicySample, TurnReader
from tests.fakes.llm import FakeLlm
from tests.gateway.running import RunningGateway, make_settings

pytestmark = pytest.mark.anyio

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
V1, V2 = "tinker://run/sampler_weights/v1", "tinker://run/sampler_weights/v2"
KEY = "training-key"


def rl_settings(home: Path, policy: FakeLlm | None, **sections: Any) -> Settings:
    url = policy.url.removesuffix("/v1") if policy else "http://127.0.0.1:9"
    rl = {"remote_url": url, "remote_api_key": KEY, **sections.pop("rl", {})}
    return make_settings(home, mode="rl", rl=rl, **sections)


async def serve_version(home: Path, agent: str, version: int, path: str) -> None:
    """What the learner does when a version begins to serve."""
    await asyncio.to_thread(_serve_version, home, agent, version, path)


def _serve_version(home: Path, agent: str, version: int, path: str) -> None:
    learning = open_writer(home / "learning.db", "learning")
    learning.execute(
        "INSERT INTO updates (id, agent, parent, state, started_at) VALUES (?, ?, 0, 'committed', 0)", (version, agent)
    )
    learning.execute(
        "INSERT INTO versions (agent, version, parent, update_id, base_model, state_path, sampler_path, created_at) "
        "VALUES (?, ?, 0, ?, 'base', 'state', ?, 0)",
        (agent, version, version, path),
    )
    learning.execute("INSERT OR REPLACE INTO serving VALUES (?, ?, 0)", (agent, version))
    learning.close()


def try_version(home: Path, agent: str, version: int, path: str, share: float) -> None:
    with LearningJournal.open(home / "learning.db") as journal:
        claimed = journal.claim(agent, journal.serving(agent), [])
        new = NewVersion(base_model="base", state_path="state", sampler_path=path)
        journal.commit(claimed, new, number=version, baseline=None, metrics={}, canary_share=share)


def end_canary(home: Path) -> None:
    with LearningJournal.open(home / "learning.db") as journal:
        (canary,) = journal.canaries()
        journal.end_canary(canary, "it was worse", serves=False)


async def versions_of(gateway: RunningGateway, session: str, *, turns: int) -> list[str]:
    return [(await ask(gateway, session=session)).headers["x-metaclaw-policy"] for _ in range(turns)]


async def sample_of(gateway: RunningGateway, turn_id: str) -> PolicySample | None:
    def read() -> PolicySample | None:
        with TurnReader.open(gateway.home / "turns.db") as reader:
            return reader.sample(turn_id)

    return await asyncio.to_thread(read)


async def ask(gateway: RunningGateway, stream: bool = False, session: str = "s", **settings: Any) -> Any:
    """One turn through the official client; returns the raw response with its headers read to the end."""
    response = await gateway.client.chat.completions.with_raw_response.create(
        model="metaclaw", messages=HELLO, stream=stream, extra_headers={"X-Session-Id": session}, **settings
    )
    parsed = response.parse()
    if stream:
        _ = [chunk async for chunk in parsed]
    return response


async def say(gateway: RunningGateway, messages: list[Any], *, session: str = "s", agent: str = "main") -> None:
    body = {"model": "metaclaw", "messages": messages}
    async with gateway.post(body, **{"X-Session-Id": session, "X-Agent-Id": agent}) as response:
        assert response.status == 200, await response.text()
