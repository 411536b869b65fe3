"""``metaclaw uninstall``: nothing of ours left in other programs, and the home only if it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def uninstall(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; the home stays, unless --remove-home.")] = False,
    remove_home: Annotated[
        bool, typer.Option("--remove-home", help="Remove conversations, memories, skills and what was trained, too.")
    ] = False,
) -> None:
    """Stop MetaClaw and disconnect every agent program; say what is left and how to remove it."""
    from metaclaw.agents.ledger import Ledger
    from metaclaw.agents.programs.registry import PROGRAMS
    from metaclaw.cli.programs import take_one_back
    from metaclaw.config_file import find_home, load_settings
    from metaclaw.errors import MetaClawError
    from metaclaw.processes.instance import stop_instance

    home = find_home()
    ledger = Ledger(home)
    names = ledger.programs()
    typer.echo(f"stops MetaClaw on {home}, and disconnects: {', '.join(names) or 'no program (none is connected)'}")
    if not yes:
        typer.confirm("Go on?", abort=True)
    if instance := stop_instance(home):
        typer.echo(f"stopped (pid {instance.pid})")
    failed = False
    with ledger.alone():
        for name in names:
            title = PROGRAMS[name].title if name in PROGRAMS else name
            try:
                record = ledger.read(name)
                if record is not None:
                    take_one_back(record, load_settings(), ledger, title=title, yes=True, dry_run=False, quiet=False)
                    typer.echo(f"{title} is as it was before")
            except (MetaClawError, OSError) as error:
                failed = True
                typer.echo(f"{title}: {error}", err=True)
    _remove_or_name(home, wanted=remove_home and not failed, is_asked=not yes and not failed)
    if failed:
        typer.echo("Not everything could be given back; the copies are in METACLAW_HOME/agents", err=True)
        raise typer.Exit(1)


def _remove_or_name(home: Path, *, wanted: bool, is_asked: bool) -> None:
    import shutil

    if not home.exists():
        typer.echo(f"{home} does not exist")
    else:
        if is_asked and not wanted:
            typer.echo(f"{home} holds conversations, memories, skills, and what was trained")
            wanted = typer.prompt("Remove it for good? Type 'yes' to do so", default="no") == "yes"
        if wanted and _is_served_from(home):
            typer.echo(f"left: {home}, from which a training server runs; stop it and come again", err=True)
            raise typer.Exit(1)
        if wanted:
            shutil.rmtree(home)
            typer.echo(f"removed {home}")
        else:
            typer.echo(f"left: {home} (remove it by hand, or with `metaclaw uninstall --remove-home`)")
    typer.echo("left: the package itself (`pip uninstall metaclaw`), and models and downloads in the caches they share")


def _is_served_from(home: Path) -> bool:
    from metaclaw.config_file import load_settings
    from metaclaw.errors import MetaClawError
    from metaclaw.training.data_dir import is_in_use

    try:
        folder = load_settings().train_server_dir
    except MetaClawError:  # they go with the rest, whatever is wrong with them
        folder = home / "train-server"
    return folder.is_relative_to(home) and is_in_use(folder)
