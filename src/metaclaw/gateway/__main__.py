"""``python -m metaclaw.gateway``: the gateway as a process.

Owns how it starts and stops; refuses to know what it serves. Invariant: settings come in on standard input, where no
other user can read them, and when that closes the parent is gone and the gateway ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import uvicorn

from metaclaw.config import Settings
from metaclaw.config_file import parse_settings
from metaclaw.errors import ConfigError, MetaClawError
from metaclaw.gateway.app import Deps, known_hosts, make_app, open_deps
from metaclaw.gateway.front import Front
from metaclaw.gateway.http_protocol import KEEP_ALIVE_S, LimitedHttpProtocol
from metaclaw.journal.database import may_pass_by_itself
from metaclaw.logs import configure_logs
from metaclaw.upstreams.configured import check_upstreams
from metaclaw.upstreams.prices import load_prices

_GRACE_S = 5
# The thread that writes the journal gives way so soon. Python's 5 ms would be seen as the gap between two tokens.
_SWITCH_INTERVAL_S = 0.0002
# A turn makes and drops thousands of objects, hardly any of them in cycles; Python would look after each 700.
_GC_THRESHOLD = 10_000
_EXIT_CONFIG = 2
_STDIN = 0
_POLL_S = 0.05

_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Ends with code 0 when it is told to stop; uvicorn's own would then die of the signal."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def main() -> int:
    """Serve until told to stop; return the exit code."""
    try:
        configure_logs("gateway")
        lines = _lines()
        settings = parse_settings(next(lines, ""))
        listener = _listen(settings)
    except MetaClawError as error:
        return _refused(error)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.freeze()  # modules and settings, which never become garbage
    gc.set_threshold(_GC_THRESHOLD)
    failed: list[MetaClawError] = []
    with listener:
        app = make_app(lambda: _opened(settings, failed), hosts=known_hosts(settings))
        server = _Server(_server_config(app))
        _obey_parent(server, app, lines)
        try:
            server.run(sockets=[listener])
        except SystemExit:  # uvicorn's own way to say that it could not start
            if not failed:
                raise
    if failed and not server.started and not may_pass_by_itself(failed[0]):
        return _refused(failed[0])
    return 0 if server.started else 1


@asynccontextmanager
async def _opened(settings: Settings, failed: list[MetaClawError]) -> AsyncGenerator[Deps]:
    try:
        async with open_deps(settings) as deps:
            yield deps
    except MetaClawError as error:  # uvicorn keeps the text of it alone
        failed.append(error)
        raise


def _refused(error: MetaClawError) -> int:
    print(f"metaclaw gateway: {error}", file=sys.stderr)  # noqa: T201 - the log may not be read; this is why we end
    return _EXIT_CONFIG


def _listen(settings: Settings) -> socket.socket:
    proxy = settings.proxy
    if not proxy.api_key.get_secret_value():
        raise ConfigError("proxy.api_key is empty; run `metaclaw setup`, which makes one")
    check_upstreams(settings)
    load_prices(settings.home)  # a file of the user's that cannot be read is one line here, and a traceback later
    family = socket.AF_INET6 if ":" in proxy.host else socket.AF_INET
    try:
        return socket.create_server((proxy.host, proxy.port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {proxy.host}:{proxy.port}: {error.strerror}; stop what uses it or set proxy.port"
        ) from error


def _server_config(app: Front) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=LimitedHttpProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody here asks who a proxy says the client is
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )


def _lines() -> Iterator[str]:
    """The lines of standard input, the last one whole as well."""
    # Not sys.stdin: a thread that waits inside its buffer aborts the interpreter's own end.
    rest = b""
    while part := os.read(_STDIN, 65_536):
        *whole, rest = (rest + part).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in whole)
    if rest:
        yield rest.decode("utf-8", "replace")


def _obey_parent(server: uvicorn.Server, app: Front, lines: Iterator[str]) -> None:
    def read() -> None:
        for line in lines:
            _adopt(app, line)
        server.should_exit = True

    threading.Thread(target=read, name="parent-watch", daemon=True).start()


def _adopt(app: Front, line: str) -> None:
    while (deps := cast("Deps | None", getattr(app.state, "deps", None))) is None:
        time.sleep(_POLL_S)  # a change that comes before everything is open
    try:
        settings = parse_settings(line)
        asyncio.run_coroutine_threadsafe(deps.adopt(settings), deps.loop).result()
    except MetaClawError as error:
        _log.warning("other settings are not taken up: %s", error)


if __name__ == "__main__":
    sys.exit(main())
