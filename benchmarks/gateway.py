"""What the gateway adds to a request: direct, through a bare pass-through, and through the gateway, in one run.

    python benchmarks/gateway.py [--requests 2000] [--concurrency 1 32] [--skills 40]

All three are processes of their own on loopback before one stub model that answers at once; the client is one
aiohttp session. Rounds are interleaved, so a busy machine slows all of them; quote the ratios, not the milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from metaclaw.config import Settings
from metaclaw.config_file import dump_settings

TOKEN = "benchmark"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
BODY = {"model": "stub", "messages": [{"role": "system", "content": "Be brief. " * 400},
                                      {"role": "user", "content": "Draft the weekly report"}]}  # fmt: skip
ROUNDS = 5


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as home:
        _write_skills(Path(home), arguments.skills)
        with _programs(Path(home)) as ports:
            asyncio.run(_measure(ports, arguments))


async def _measure(ports: dict[str, int], arguments: argparse.Namespace) -> None:
    for port in ports.values():
        await _until_open(port)
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        for is_stream in (False, True):
            for concurrency in arguments.concurrency:
                results = await _interleaved(http, urls, arguments.requests, concurrency, is_stream)
                _report(results, concurrency, is_stream)


async def _interleaved(
    http: aiohttp.ClientSession, urls: dict[str, str], num_requests: int, concurrency: int, is_stream: bool
) -> dict[str, dict[str, float]]:
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in urls}
    for _ in range(ROUNDS):
        for name, url in urls.items():
            rounds[name].append(await _load(http, url, num_requests // ROUNDS, concurrency, is_stream))
    return {
        name: {key: statistics.median(result[key] for result in results) for key in results[0]}
        for name, results in rounds.items()
    }


async def _load(
    http: aiohttp.ClientSession, url: str, num_requests: int, concurrency: int, is_stream: bool
) -> dict[str, float]:
    todo = iter(range(num_requests))
    firsts: list[float] = []
    totals: list[float] = []

    async def talk() -> None:
        for _ in todo:
            start = time.perf_counter()
            async with http.post(
                f"{url}/v1/chat/completions", json={**BODY, "stream": is_stream}, headers=HEADERS
            ) as reply:
                if reply.status != 200:
                    raise SystemExit(f"{url} answered {reply.status}: {await reply.text()}")
                await reply.content.readany()
                firsts.append(time.perf_counter() - start)
                await reply.read()
            totals.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(talk() for _ in range(concurrency)))
    wall_s = time.perf_counter() - start
    cuts = statistics.quantiles(totals, n=100)
    return {
        "p50_ms": cuts[49] * 1e3,
        "p99_ms": cuts[98] * 1e3,
        "first_p50_ms": statistics.median(firsts) * 1e3,
        "per_s": num_requests / wall_s,
    }


def _report(results: dict[str, dict[str, float]], concurrency: int, is_stream: bool) -> None:
    print(f"\n{'stream' if is_stream else 'plain'}, {concurrency} at a time")
    print(f"  {'':12}{'p50 ms':>10}{'p99 ms':>10}{'first ms':>10}{'per s':>10}{'p50 added':>12}{'rate ratio':>12}")
    direct = results["direct"]
    for name, result in results.items():
        added = result["p50_ms"] - direct["p50_ms"]
        print(
            f"  {name:12}{result['p50_ms']:10.2f}{result['p99_ms']:10.2f}{result['first_p50_ms']:10.2f}"
            f"{result['per_s']:10.0f}{added:12.2f}{direct['per_s'] / result['per_s']:12.2f}"
        )


@contextmanager
def _programs(home: Path) -> Generator[dict[str, int]]:
    stub, bare, gateway = (_free_port() for _ in range(3))
    settings = Settings.model_validate(
        {
            "home": home,
            "llm": {"api_base": f"http://127.0.0.1:{stub}/v1"},
            "proxy": {"api_key": TOKEN, "port": gateway},
        }
    )
    me = str(Path(__file__).resolve())
    children = [
        subprocess.Popen([sys.executable, me, "--serve", "stub", str(stub)], stdin=subprocess.PIPE),
        subprocess.Popen([sys.executable, me, "--serve", "bare", str(bare), str(stub)], stdin=subprocess.PIPE),
        subprocess.Popen([sys.executable, "-m", "metaclaw.gateway"], stdin=subprocess.PIPE),
    ]
    assert children[2].stdin is not None
    children[2].stdin.write(dump_settings(settings).encode() + b"\n")
    children[2].stdin.flush()
    try:
        yield {"direct": stub, "pass-through": bare, "gateway": gateway}
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(10)


async def _until_open(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise SystemExit(f"nothing answers on port {port}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _write_skills(home: Path, num_skills: int) -> None:
    for number in range(num_skills):
        folder = home / "skills" / f"report-{number}"
        folder.mkdir(parents=True)
        text = f"---\nname: report-{number}\ndescription: Draft report number {number} weekly\n---\n{'Steps. ' * 40}\n"
        (folder / "SKILL.md").write_text(text)


def _serve(kind: str, port: int, stub_port: int | None) -> None:
    app = _stub if kind == "stub" else _bare_pass_through(f"http://127.0.0.1:{stub_port}")
    uvicorn.run(
        app, host="127.0.0.1", port=port, log_level="warning", access_log=False, loop="uvloop", http="httptools"
    )


async def _stub(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        await _lifespan(receive, send)
        return
    body = await _body(receive)
    words = [f"word{number} " for number in range(100)]
    if b'"stream": true' in body or b'"stream":true' in body:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for word in words:
            chunk = {
                "id": "c",
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": {"content": word}}],
            }
            event = f"data: {json.dumps(chunk)}\n\n".encode()
            await send({"type": "http.response.body", "body": event, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        return
    message = {"role": "assistant", "content": "".join(words)}
    answer = json.dumps({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": answer})


def _bare_pass_through(upstream: str) -> Any:
    sessions: list[aiohttp.ClientSession] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await _lifespan(receive, send)
            return
        if not sessions:
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        async with sessions[0].post(upstream + scope["path"], data=await _body(receive)) as reply:
            kind = reply.headers["Content-Type"].encode()
            await send({"type": "http.response.start", "status": reply.status, "headers": [(b"content-type", kind)]})
            async for chunk in reply.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _lifespan(receive: Any, send: Any) -> None:
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000, help="per program and setting")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--skills", type=int, default=40)
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        _serve(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else None)
    else:
        main()
