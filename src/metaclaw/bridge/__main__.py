"""``python -m metaclaw.bridge``: the sampling bridge as a process, with one line of settings on standard input.

Owns how it starts and stops; refuses to know what it serves. Invariant: it listens on this machine alone, and it ends
when its standard input does, because then its parent is gone.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading

import uvicorn

from metaclaw.bridge.app import make_app
from metaclaw.bridge.model import load_model
from metaclaw.clouds.child import SdkChild
from metaclaw.clouds.cloud import cloud_of
from metaclaw.config import bridge_key
from metaclaw.config_file import parse_settings
from metaclaw.errors import ConfigError, MetaClawError
from metaclaw.http.declined_upgrades import DecliningHttpProtocol
from metaclaw.logs import configure_logs

HOST = "127.0.0.1"
_EXIT_CONFIG = 2
_GRACE_S = 5
_KEEP_ALIVE_S = 75  # longer than clients keep idle connections

_log = logging.getLogger(__name__)


def main() -> int:
    """Serve until standard input ends; 0 then, 2 when the settings cannot work."""
    try:
        configure_logs("bridge")
        settings = parse_settings(sys.stdin.readline())
        cloud = cloud_of(settings.rl)
        if cloud is None:
            raise ConfigError("rl.backend is 'remote': there is nothing to build a bridge to")
        renderer, facts = load_model(settings.rl)
        listener = _listen(settings.rl.bridge_port)
    except MetaClawError as error:
        print(f"metaclaw bridge: {error}", file=sys.stderr)  # noqa: T201 - the log may not be read; this is why we end
        return _EXIT_CONFIG
    with listener:
        app = make_app(SdkChild(cloud), renderer, facts, base_model=settings.rl.model, key=bridge_key(settings))
        server = uvicorn.Server(_config(app))
        threading.Thread(target=_end_with_parent, args=(server,), name="parent-watch", daemon=True).start()
        _log.info("the policy is sampled at %s, and trained there", cloud.where)
        server.run(sockets=[listener])
    return 0


def _config(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType]
        loop="asyncio", http=DecliningHttpProtocol, ws="none", lifespan="on", log_config=None, log_level="warning",
        access_log=False, timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=_GRACE_S,
    )  # fmt: skip


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port), backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {HOST}:{port}: {error.strerror}; stop what uses it or set rl.bridge_port"
        ) from error


def _end_with_parent(server: uvicorn.Server) -> None:
    # Not through sys.stdin: a thread that waits in its lock would abort the interpreter's shutdown.
    while os.read(0, 4096):
        pass
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
