"""``metaclaw sdk``: the environments of the training clouds' SDKs that cannot share ours."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="SDKs of training clouds.", no_args_is_help=True)


class Sdk(StrEnum):
    """Those that need an environment of their own."""

    MINT = "mint"
    WEAVER = "weaver"


@app.callback()
def group() -> None:
    """SDKs of training clouds."""


@app.command("prepare")
def prepare(
    name: Annotated[Sdk, typer.Argument(help="Whose SDK.")],
    python: Annotated[Path | None, typer.Option(help="Interpreter to build it from; default the one running.")] = None,
) -> None:
    """Install an SDK into an environment of its own, at once when it is there; print its Python."""
    from rich.console import Console

    from metaclaw.clouds.preparing import prepare as make

    console = Console(stderr=True, highlight=False)
    made = make(name.value, python=python, report=lambda what: console.print(f"{name.value}: {what} …", markup=False))
    typer.echo(made)
