"""A gateway before a fake model that speaks some of OpenAI's dialects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from metaclaw.journal.turns import RecordedTurn, TurnReader
from tests.fakes.llm import FakeLlm, fake_llm
from tests.gateway.running import RunningGateway, make_settings, running_gateway

Json = dict[str, Any]
CHAT = ("openai.chat",)
RESPONSES = ("openai.responses",)
COMPLETIONS = ("openai.chat", "openai.completions")
EMBEDDINGS = ("openai.chat", "openai.embeddings")


@asynccontextmanager
async def before(
    tmp_path: Path, dialects: tuple[str, ...], script: Any = None, **sections: Any
) -> AsyncGenerator[tuple[FakeLlm, RunningGateway]]:
    """The model and the gateway; ``gateway.client`` is OpenAI's own."""
    llm = {"dialects": dialects, "max_attempts": 1, **sections.pop("llm", {})}
    async with (
        fake_llm(script) as model,
        running_gateway(make_settings(tmp_path, llm_url=model.url, llm=llm, **sections)) as gateway,
    ):
        yield model, gateway


async def said_in(turn: RecordedTurn, home: Path) -> list[Json]:
    """The conversation as the journal has it."""

    def read() -> list[Json]:
        with TurnReader.open(home / "turns.db") as reader:
            return reader.messages(turn)

    return await asyncio.to_thread(read)
