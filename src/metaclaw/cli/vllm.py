"""``metaclaw vllm``: the environment of the sampler that is not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="vLLM, a faster sampler for GPUs.", no_args_is_help=True)


@app.command("prepare")
def prepare(
    python: Annotated[Path | None, typer.Option(help="Interpreter to build it from; default the one running.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print python, version and device as JSON.")] = False,
) -> None:
    """Install vLLM into an environment of its own, at once when it is there; print its Python."""
    import json as encoding

    from rich.console import Console

    from metaclaw.training.samplers.vllm import installation

    console = Console(stderr=True, highlight=False)
    made = installation.prepare(
        installation.recipe_here(),
        python=python,
        report=lambda what: console.print(f"vllm: {what} …", markup=False),
    )
    if json:
        device = "cpu" if made.is_cpu else "cuda"
        typer.echo(encoding.dumps({"python": str(made.python), "version": made.version, "device": device}))
    else:
        typer.echo(made.python)
