"""``metaclaw connect``, ``disconnect`` and ``programs``: the agent programs of this machine and the gateway."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from metaclaw.agents.ledger import Ledger, Wiring
    from metaclaw.agents.wiring import Change
    from metaclaw.cli.connecting import Proposal
    from metaclaw.config import Settings

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; with --yes or --dry-run.")]


def connect(
    program: Annotated[
        str | None,
        typer.Argument(
            help="As `metaclaw programs` lists it: openclaw, claude-code, opencode, ... Without it: agent_program."
        ),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(help="The agent that the program is; without it main, and OpenClaw's agents each their own."),
    ] = None,
    plugin: Annotated[bool, typer.Option(help="OpenClaw: our plugin, which says who asks.")] = True,
    memory_slot: Annotated[
        bool, typer.Option(help="OpenClaw: MetaClaw's memory in its memory slot: tools and commands.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Point an agent program at the gateway: shows what changes in its files, asks, and keeps a copy.

    Only our own entries are written. `metaclaw disconnect` gives back what was there, byte for byte.
    """
    from metaclaw.agents.programs.registry import chosen_program
    from metaclaw.config_file import load_settings, require_settings
    from metaclaw.errors import ConfigError

    _require_answer(yes, dry_run, as_json)
    require_settings()
    settings = load_settings()
    name = chosen_program(program, settings).name
    if memory_slot and name != "openclaw":
        raise ConfigError(f"--memory-slot is OpenClaw's; {name} has none")
    is_answered = connect_one(
        name, settings, agent=agent, plugin=plugin, memory_slot=memory_slot, yes=yes, dry_run=dry_run, as_json=as_json
    )
    if not is_answered:
        raise typer.Abort


def connect_one(
    name: str,
    settings: Settings,
    *,
    agent: str | None = None,
    plugin: bool = True,
    memory_slot: bool = False,
    yes: bool = False,
    dry_run: bool = False,
    as_json: bool = False,
) -> bool:
    """Show, ask, connect. Returns whether the answer was yes, where there was a question."""
    from metaclaw.agents.ledger import Ledger
    from metaclaw.agents.programs.registry import find_program
    from metaclaw.cli.connecting import carry_out, propose

    ledger, chosen = Ledger(settings.home), find_program(name)
    with ledger.alone():
        proposal = propose(chosen, settings, ledger, agent=agent, with_plugin=plugin, with_memory=memory_slot)
        if not as_json:
            _show(proposal)
        is_wanted = not proposal.is_done and not dry_run and bool(proposal.plan.files or proposal.plan.commands)
        if is_wanted and not yes and not typer.confirm(f"Connect {chosen.title}?"):
            return False
        if is_wanted:
            carry_out(proposal, settings, ledger)
    if as_json:
        typer.echo(json.dumps({**_described(proposal), "written": is_wanted}))
    elif is_wanted:
        _say_connected(proposal, settings)
    elif proposal.is_done and proposal.plan.files:
        typer.echo(f"{chosen.title} is connected already; nothing to do")
    return True


def disconnect(
    program: Annotated[str, typer.Argument(help="As `metaclaw programs` lists it.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give back what was in a program's files before `metaclaw connect`; what you changed since stays."""
    from metaclaw.agents.ledger import Ledger
    from metaclaw.agents.programs.registry import find_program
    from metaclaw.config_file import load_settings
    from metaclaw.errors import WiringError

    _require_answer(yes, dry_run, as_json)
    settings = load_settings()
    ledger = Ledger(settings.home)
    chosen = find_program(program)
    with ledger.alone():
        record = ledger.read(chosen.name)
        if record is None:
            raise WiringError(f"{chosen.title} is not connected; `metaclaw programs` shows which are")
        change, remarks = take_one_back(
            record, settings, ledger, title=chosen.title, yes=yes, dry_run=dry_run, quiet=as_json
        )
    if as_json:
        shown = {
            "program": chosen.name,
            "files": _files(change, record.token),
            "notes": remarks,
            "written": not dry_run,
        }
        typer.echo(json.dumps(shown))
    elif not dry_run:
        typer.echo(f"{chosen.title} is as it was before")


def take_one_back(
    record: Wiring, settings: Settings, ledger: Ledger, *, title: str, yes: bool, dry_run: bool, quiet: bool
) -> tuple[Change, list[str]]:
    """Show, ask, take back. Returns the change and what a user should know."""
    from metaclaw.agents import diffs, wiring
    from metaclaw.cli.connecting import take_back

    change = wiring.disconnecting(record, ledger)
    if not quiet:
        for line in diffs.shown(change, record.token):
            typer.echo(line)
        for stored in record.undo:
            typer.echo(f"runs: {' '.join(stored.argv)}")
    remarks = list(change.remarks)
    if not dry_run:
        if not yes:
            typer.confirm(f"Disconnect {title}?", abort=True)
        remarks += take_back(record, change, settings, ledger)
    if not quiet:
        for remark in remarks:
            typer.echo(f"note: {remark}", err=True)
    return change, remarks


def programs(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """The agent programs that can be connected: which are on this machine, and whom they ask."""
    from metaclaw.agents.ledger import Ledger
    from metaclaw.agents.programs.registry import PROGRAMS
    from metaclaw.agents.status import read_status
    from metaclaw.cli.connecting import gateway_url, this_machine
    from metaclaw.config_file import find_home, read_settings
    from metaclaw.errors import ConfigError

    ledger, machine, gateway = Ledger(find_home()), this_machine(), None
    with suppress(ConfigError):  # which another command says: what is on this machine is known without settings
        gateway = gateway_url(read_settings()[0])
    states = [
        read_status(program, machine, ledger, gateway=gateway)
        for program in PROGRAMS.values()
        if program.name != "none"
    ]
    if as_json:
        typer.echo(json.dumps([state.plain() for state in states]))
        return
    for state in states:
        typer.echo(f"{state.name:<12} {state.sentence()}")


def _require_answer(yes: bool, dry_run: bool, as_json: bool) -> None:
    from metaclaw.errors import ConfigError

    if as_json and not (yes or dry_run):
        raise ConfigError("--json asks nothing: give --yes, or --dry-run to see what would change")


def _show(proposal: Proposal) -> None:
    from metaclaw.agents import diffs

    for line in diffs.shown(proposal.change, proposal.connection.token):
        typer.echo(line)
    for command in proposal.plan.commands:
        typer.echo(f"runs: {' '.join(command.argv)}   ({command.why})")
    for place in proposal.old_plugins:
        typer.echo(f"replaces {place}, our plugin of another release")
    for remark in _notes(proposal):
        typer.echo(f"note: {remark}", err=True)


def _notes(proposal: Proposal) -> list[str]:
    title = proposal.program.title
    loaded = [f"{title} loads a plugin once: start its gateway anew, if it runs"] if proposal.old_plugins else []
    return [*proposal.change.remarks, *loaded]


def _say_connected(proposal: Proposal, settings: Settings) -> None:
    from metaclaw.processes.instance import is_healthy

    who = f"agent {proposal.connection.agent}" if proposal.connection.agent else "each of its agents by its own name"
    typer.echo(f"{proposal.program.title} asks {proposal.connection.url} ({who})")
    if not is_healthy(proposal.connection.url):
        typer.echo("MetaClaw does not run: `metaclaw start`")


def _described(proposal: Proposal) -> dict[str, Any]:
    return {
        "program": proposal.program.name,
        "url": proposal.connection.url,
        "agent": proposal.connection.agent,
        **_files(proposal.change, proposal.connection.token),
        "commands": [list(command.argv) for command in proposal.plan.commands],
        "plugins": [str(place) for place in proposal.old_plugins],
        "notes": _notes(proposal),
    }


def _files(change: Change, secret: str) -> dict[str, Any]:
    from metaclaw.agents import diffs

    changed = [str(file.path) for file in change.files if file.before != file.after]
    return {"files": changed, "diff": "\n".join(diffs.shown(change, secret))}
