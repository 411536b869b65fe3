"""What is said of settings that change while MetaClaw runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from metaclaw.config import Settings
from metaclaw.config_file import config_path, read_settings, set_values
from metaclaw.processes.live_settings import keep_settings


async def said_of(home: Path, changes: dict[str, object], *, port: int) -> list[str]:
    """The reports after ``changes``, of an instance that listens on ``port``."""
    said: list[str] = []
    running = read_settings(home, {})[0]
    running = running.model_copy(update={"proxy": running.proxy.model_copy(update={"port": port})})

    def take_up(changed: Settings) -> None:
        raise AssertionError(f"{changed!r} is nothing new")

    keeping = asyncio.create_task(
        keep_settings(running, reread=lambda: read_settings(home, {})[0], take_up=take_up, report=said.append)
    )
    await asyncio.sleep(0.1)  # it has looked at the file
    set_values(home, changes)
    for _ in range(30):
        await asyncio.sleep(0.05)
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    return said


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("before", "after", "is_said"), [(30000, 30001, True), (0, 30001, True), (30000, 0, False), (0, 0, False)]
)
async def test_another_port_counts_from_the_next_start_on_and_is_said_to(
    tmp_path: Path, before: int, after: int, is_said: bool
):
    set_values(tmp_path, {"proxy.port": before, "llm.api_base": "http://127.0.0.1:9/v1", "proxy.api_key": "k"})
    assert config_path(tmp_path).exists()
    said = await said_of(tmp_path, {"proxy.port": after, "max_context_tokens": 9000}, port=before or 40000)
    names = "max_context_tokens, proxy" if is_said else "max_context_tokens"
    assert said == [f"these changes of config.yaml count from the next start on: {names}"]
