"""A real gateway on a real socket, in the test's own event loop."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from openai import AsyncOpenAI
from starlette.types import ASGIApp

from metaclaw.config import Settings
from metaclaw.gateway.agent_routers import AgentRouters
from metaclaw.gateway.app import known_hosts, make_app, open_deps
from metaclaw.gateway.http_protocol import LimitedHttpProtocol
from metaclaw.gateway.recording import Recorder
from metaclaw.journal.turns import RecordedTurn, TurnReader

TOKEN = "gateway-token"


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield  # they are pytest's


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGateway:
    """How to reach it, and what it recorded."""

    url: str
    home: Path
    http: aiohttp.ClientSession
    client: AsyncOpenAI
    recorder: Recorder
    routers: AgentRouters
    adopt: Callable[[Settings], Awaitable[None]]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {TOKEN}"}

    async def turns(self) -> list[RecordedTurn]:
        await self.recorder.flush()
        return await asyncio.to_thread(read_turns, self.home)

    def post(self, body: Any, path: str = "/v1/chat/completions", **headers: str) -> Any:
        data = {"data": io.BytesIO(body)} if isinstance(body, bytes) else {"json": body}
        return self.http.post(self.url + path, headers={"Authorization": f"Bearer {TOKEN}", **headers}, **data)


def read_turns(home: Path) -> list[RecordedTurn]:
    with TurnReader.open(home / "turns.db") as reader:
        return reader.turns()


def make_settings(home: Path, *, llm_url: str = "", **sections: Any) -> Settings:
    """Settings of a gateway with a token of its own and any free port."""
    llm = {**({"api_base": llm_url} if llm_url else {}), **sections.pop("llm", {})}
    if "api_base" in llm:
        llm = {"provider": "fake", **llm}
    proxy = {"api_key": TOKEN, "port": 0, **sections.pop("proxy", {})}
    skills = {"starter": False, **sections.pop("skills", {})}  # a test's request recalls what the test wrote
    return Settings.model_validate({"home": home, "llm": llm, "proxy": proxy, "skills": skills, **sections})


@asynccontextmanager
async def running_gateway(
    settings: Settings, clock: Callable[[], float] | None = None
) -> AsyncGenerator[RunningGateway]:
    app = make_app(
        lambda: open_deps(settings) if clock is None else open_deps(settings, clock), hosts=known_hosts(settings)
    )
    async with serving(app) as url:
        client = AsyncOpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0)
        async with aiohttp.ClientSession() as http, client:
            deps = app.state.deps
            yield RunningGateway(
                url=url,
                home=settings.home,
                http=http,
                client=client,
                recorder=deps.recorder,
                routers=deps.routers,
                adopt=deps.adopt,
            )


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncGenerator[str]:
    """An application on a real socket; its address."""
    server = _Server(
        uvicorn.Config(app, http=LimitedHttpProtocol, log_config=None, lifespan="on", timeout_graceful_shutdown=1)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
