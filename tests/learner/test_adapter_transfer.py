"""The key of the training server is for nobody to whom it points."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from metaclaw.config import RlSettings
from metaclaw.errors import BackendError
from metaclaw.learner.adapter_transfer import STATE_FILES, fetch, hand_over
from metaclaw.learner.backends.model_size import num_parameters

pytestmark = pytest.mark.anyio

KEY = "tml-our-own-secret"


@asynccontextmanager
async def server(answer: web.StreamResponse, seen: list[web.BaseRequest]) -> AsyncGenerator[str]:
    """Answers everything with ``answer``."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request)
        return answer

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port, *_ = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def settings(url: str) -> RlSettings:
    return RlSettings.model_validate({"model": "m", "remote_url": url, "remote_api_key": KEY})


async def test_weights_that_lie_elsewhere_are_fetched_there_without_the_key(tmp_path: Path) -> None:
    packed, asked, lent = io.BytesIO(), list[web.BaseRequest](), list[web.BaseRequest]()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("adapter_config.json")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"{}"))
    async with server(web.Response(body=packed.getvalue()), lent) as elsewhere:
        moved = web.Response(status=302, headers={"Location": f"{elsewhere}/file"})
        async with server(moved, asked) as url, aiohttp.ClientSession() as session:
            names = await fetch(session, settings(url), "tinker://a/weights/b", tmp_path / "new")
    assert names == ["adapter_config.json"]
    assert asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(lent[0].headers)


async def test_neither_weights_nor_the_key_are_sent_where_the_server_points(tmp_path: Path) -> None:
    asked, others = list[web.BaseRequest](), list[web.BaseRequest]()
    for name in STATE_FILES:
        (tmp_path / name).write_bytes(b"x")
    async with server(web.json_response({}), others) as elsewhere:
        moved = web.Response(status=307, headers={"Location": f"{elsewhere}/file"})
        async with server(moved, asked) as url, aiohttp.ClientSession() as session:
            with pytest.raises(BackendError, match="answered 307"):
                await hand_over(session, settings(url), tmp_path, "x")
        async with server(moved, asked) as url:
            assert await num_parameters(url, KEY, "qwen3-8B") == 8e9
    assert (len(asked), others) == (2, [])
