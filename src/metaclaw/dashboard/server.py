"""The page's server: this machine alone, a key of its own, until it is interrupted.

Owns the socket, the key and the address; refuses to know routes.
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from metaclaw.dashboard.app import ENTRY, make_app
from metaclaw.errors import ProcessError

_HOST = "127.0.0.1"


def serve(home: Path, port: int, on_open: Callable[[str, str], None]) -> None:
    """Serve the page of ``home`` until SIGINT or SIGTERM; ``on_open`` hears the address once it is answered,
    and one that can be used once: a browser's command line is there for all users of the machine to read.

    Port 0 takes any that is free. Raises ``ProcessError`` when the port is taken.
    """
    logging.getLogger("metaclaw.skills").setLevel(logging.ERROR)  # the page shows what is broken
    key, ticket = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    try:
        listening = socket.create_server((_HOST, port))
    except OSError as error:
        raise ProcessError(
            f"port {port} of {_HOST} cannot be opened ({error.strerror}); choose another with --port"
        ) from error
    with listening:
        taken = listening.getsockname()[1]
        app = make_app(home, key, cookie=f"metaclaw_dashboard_{taken}", ticket=ticket)
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
        # Connections that come before the server runs wait in the socket's own queue.
        entry = f"http://{_HOST}:{taken}{ENTRY}?key="
        on_open(entry + key, entry + ticket)
        uvicorn.Server(config).run(sockets=[listening])
