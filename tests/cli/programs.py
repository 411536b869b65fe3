"""``metaclaw`` as a user runs it: real processes, a home and ports of their own, and a model that says hello."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from metaclaw.config_file import read_settings
from metaclaw.processes.instance import is_healthy, running_instance

METACLAW = (sys.executable, "-m", "metaclaw.cli.main")


class _Hello(BaseHTTPRequestHandler):
    words = "hello from upstream"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": self.words}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def upstream(words: str = _Hello.words) -> Generator[str]:
    """The base URL of a model that says ``words``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_Saying", (_Hello,), {"words": words}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "METACLAW_HOME": str(home), "NO_COLOR": "1"}


def metaclaw(
    home: Path, *arguments: str, stdin: str = "", env: dict[str, str] | None = None, command: tuple[str, ...] = METACLAW
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*command, *arguments],
        env=environment(home) | (env or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@contextmanager
def started(home: Path, *flags: str, command: tuple[str, ...] = METACLAW) -> Generator[subprocess.Popen[bytes]]:
    """``metaclaw start`` in the foreground, once it answers; its log is ``home/start.log``."""
    with (home / "start.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "start", *flags], env=environment(home), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        until(lambda: process.poll() is not None or status(home)["healthy"])
        assert process.poll() is None, (home / "start.log").read_text()
        yield process
    finally:
        process.terminate()
        process.wait(30)


def status(home: Path) -> dict[str, Any]:
    """As ``metaclaw status --json`` says it, without a process for each look."""
    instance = running_instance(home)
    facts = asdict(instance) if instance else {}
    return {"running": instance is not None, "healthy": instance is not None and is_healthy(instance.url), **facts}


def ask(home: Path) -> str:
    """One real request through the gateway, with the token and the URL that a user would look up."""
    token = read_settings(home, {})[0].proxy.api_key.get_secret_value()
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = urllib.request.Request(f"{status(home)['url']}/v1/chat/completions", body)
    request.add_header("Authorization", f"Bearer {token}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
