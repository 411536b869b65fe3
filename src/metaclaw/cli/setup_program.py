"""``metaclaw setup``: which agent program you use, and connecting it.

Owns that question and what follows from the answer; refuses to know how a program is connected. Invariant: nothing is
changed in a program unless it was named, and where somebody is asked, shown first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from metaclaw.config import Settings

_NONE = "none"


def known_name(given: str | None) -> str | None:
    """A name as the settings have it. Raises ``WiringError`` for one that is unknown."""
    from metaclaw.agents.programs.registry import find_program

    return find_program(given).name if given is not None else None


def ask_for_program(current: Settings) -> str:
    """The answer; what is on this machine is named first, and the first of it is the default."""
    from metaclaw.agents.programs.registry import PROGRAMS
    from metaclaw.errors import WiringError

    found = programs_found()
    others = [name for name in PROGRAMS if name not in found and name != _NONE]
    typer.echo(f"Agent programs on this machine: {', '.join(found) or 'none that MetaClaw knows'}")
    typer.echo(f"Others that it knows: {', '.join(others)}")
    default = current.agent_program or (found[0] if found else _NONE)
    while True:
        answer: str = typer.prompt("Which agent program do you use (none: I connect mine myself)", default=default)
        try:
            return known_name(answer) or _NONE
        except WiringError as error:
            typer.echo(str(error), err=True)


def programs_found() -> list[str]:
    """The names of those that are on this machine."""
    from metaclaw.agents.programs.registry import PROGRAMS
    from metaclaw.cli.connecting import this_machine

    machine = this_machine()
    return [name for name, program in PROGRAMS.items() if name != _NONE and program.find(machine) is not None]


def offer_to_connect(name: str | None, settings: Settings, *, is_told: bool, yes: bool) -> bool:
    """Connect what was chosen; returns whether it is connected now.

    A program that was named by a flag and cannot be connected is an error, raised as ``MetaClawError``; one that was
    chosen from a question, a remark.
    """
    from metaclaw.agents.ledger import Ledger
    from metaclaw.cli.connecting import gateway_url
    from metaclaw.cli.programs import connect_one
    from metaclaw.errors import MetaClawError

    if name is None:
        likely = settings.agent_program or next(iter(programs_found()), _NONE)
        if likely != _NONE:
            typer.echo(f"next: metaclaw connect {likely}")
        return False
    if name == _NONE:
        return False
    try:
        record = Ledger(settings.home).read(name)
        if record is not None and record.url == gateway_url(settings):  # as whoever connected it wanted it
            typer.echo(f"{name} is connected already")
            return True
        is_connected = connect_one(name, settings, agent=record.agent if record else None, yes=yes)
    except MetaClawError as error:
        if is_told:
            raise
        typer.echo(f"not connected: {error}", err=True)
        is_connected = False
    if not is_connected:
        typer.echo(f"later: metaclaw connect {name}")
    return is_connected
