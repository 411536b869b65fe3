"""``metaclaw dashboard``: the web page over the journal."""

from __future__ import annotations

import os
import sys
import threading
from typing import Annotated

import typer


def dashboard(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 takes any that is free.")] = 30080,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")] = True,
) -> None:
    """Show in the browser what is recorded, served and learned, until Ctrl-C; nothing can be changed there."""
    import webbrowser

    from metaclaw.config_file import load_settings
    from metaclaw.dashboard.server import serve

    def tell(address: str, once: str) -> None:
        typer.echo(f"the dashboard is at {address}\n(Ctrl-C ends it; who has this address can read all conversations)")
        if opens and _has_screen():
            # Beside the server, since some browsers are waited for until they end.
            threading.Thread(target=webbrowser.open, args=(once,), daemon=True).start()

    serve(load_settings().home, port, tell)


def _has_screen() -> bool:
    """Where there is none, a browser for terminals would take this one."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
