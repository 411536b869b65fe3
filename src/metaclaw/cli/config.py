"""``metaclaw config``: look at a setting, or change it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from metaclaw.config import Settings

_TAKEN_UP_WITHIN_S = 3.0


def config(
    key: Annotated[
        str, typer.Argument(help="A key such as llm.model_id; 'show' for all of them, 'tidy' for today's names.")
    ] = "show",
    value: Annotated[str | None, typer.Argument(help="New value; '-' reads it from standard input.")] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show secrets.")] = False,
) -> None:
    """Show the settings that hold, print one, or write one into config.yaml.

    One key alone is printed as it is, secrets too, for `$(metaclaw config proxy.api_key)`. `metaclaw config tidy`
    writes a file of an older release under today's names, and keeps a copy.
    """
    if key == "show":
        _show(reveal)
    elif key == "tidy" and value is None:
        _tidy()
    elif value is None:
        _print(key)
    else:
        _write(key, sys.stdin.readline().rstrip("\r\n") if value == "-" else value)


def _show(reveal: bool) -> None:
    from metaclaw.config_file import get_value, load_settings
    from metaclaw.config_keys import names_in

    settings = load_settings()
    for name in names_in(settings):
        typer.echo(f"{name}: {get_value(settings, name, reveal=reveal)}".rstrip())


def _tidy() -> None:
    from metaclaw.config_file import find_home, require_settings, tidy_names

    require_settings()
    copy, told = tidy_names(find_home())
    for line in told:
        typer.echo(line)
    typer.echo("every key has its name of today" if copy is None else f"the file as it was: {copy}")


def _print(key: str) -> None:
    from metaclaw.config_file import get_value, load_settings
    from metaclaw.config_keyring import resolve_secrets

    settings = load_settings()
    if get_value(settings, key, reveal=True).startswith("keyring:"):
        settings = resolve_secrets(settings)
    typer.echo(get_value(settings, key, reveal=True))


def _write(key: str, value: str) -> None:
    from metaclaw.config_file import find_home, get_value, read_settings, set_value
    from metaclaw.config_keys import require_key
    from metaclaw.config_legacy import current_name
    from metaclaw.processes.instance import running_instance
    from metaclaw.processes.live_settings import waits_for_a_start

    home = find_home()
    set_value(home, key, value)
    name = current_name(key)
    typer.echo(f"{name}: {get_value(read_settings(home, {})[0], name)}")
    variable = require_key(name).env
    if os.environ.get(variable):
        typer.echo(f"note: the variable {variable} is set and wins over the file", err=True)
    if running_instance(home) is None:
        return
    if waits_for_a_start(name):
        typer.echo("note: MetaClaw runs, and takes this up when it is started again", err=True)
    elif trouble := _trouble(read_settings(home)[0]):
        typer.echo(f"note: MetaClaw runs, and goes on with the settings of before: {trouble}", err=True)
    elif name == "mode" and (stays := _stays_in_another_mode(home, read_settings(home, {})[0].mode)):
        typer.echo(f"note: MetaClaw runs, and stays in mode {stays}", err=True)


def _trouble(settings: Settings) -> str | None:
    """Why nothing could run with ``settings``, which may be half of what somebody is about to write."""
    from metaclaw.errors import ConfigError
    from metaclaw.processes.models import require_model
    from metaclaw.upstreams.configured import check_upstreams

    try:
        require_model(settings)
        check_upstreams(settings)
    except ConfigError as error:
        return str(error)
    return None


def _stays_in_another_mode(home: Path, mode: str) -> str | None:
    """Which one and why, where what runs did not take ``mode`` up within the time that it takes to."""
    from metaclaw.processes.instance import running_instance

    until, before = time.monotonic() + _TAKEN_UP_WITHIN_S, None
    while (instance := running_instance(home)) and instance.mode != mode:
        before = instance.settings_trouble if before is None else before  # what it says yet of the file of before
        if instance.settings_trouble not in ("", before) or time.monotonic() > until:
            why = instance.settings_trouble or "what it was started with (a flag, a variable) wins over the file"
            return f"{instance.mode}: {why}"
        time.sleep(0.1)
    return None
