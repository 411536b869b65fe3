"""A model whose kept connections die in silence, as after a laptop slept. Run in a network namespace of its own.

Prints as JSON how many seconds the next request took, with what came of it. What TCP waits for is a tenth here.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from pydantic import SecretStr

from metaclaw.upstreams import session as sessions
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.upstream import Timeouts, Upstream

KEPT = 3
ASKED = b'{"model": "m", "messages": []}'


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    together = threading.Barrier(KEPT)
    ports: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.client_address[1] not in self.ports and len(self.ports) < KEPT:
            self.ports.append(self.client_address[1])
            self.together.wait(10)  # so that each request has a connection of its own
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that die are what this is about."""


async def main() -> None:
    server = Server(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    upstream = Upstream(
        name="model", base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key=SecretStr("sk-x"), key_setting="k",
        timeouts=Timeouts(first_byte_s=60.0),
    )  # fmt: skip
    async with sessions.new_session({}) as session:
        model = HttpModel(session, upstream)
        await asyncio.gather(*(ask(model) for _ in range(KEPT)))
        for port in Model.ports:
            ip("rule", "add", "pref", "10", "ipproto", "tcp", "dport", str(port), "blackhole")
        began = time.monotonic()
        said = await ask(model)
        sys.stdout.write(json.dumps({"seconds": time.monotonic() - began, "said": said.decode()}))


async def ask(model: HttpModel) -> bytes:
    reply = await model.send("openai.chat", ASKED)
    return await reply.read()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


if __name__ == "__main__":
    sessions.WATCHING.update({"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_USER_TIMEOUT": 3_000})
    ip("link", "set", "lo", "up")
    ip("rule", "add", "pref", "100", "lookup", "local")  # after ours, which it would hide
    ip("rule", "del", "pref", "0")
    asyncio.run(main())
