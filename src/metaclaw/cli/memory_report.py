"""``metaclaw memory report``: how the memory fares, in one look."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from metaclaw.cli.memory import AsJson, app, day_of, opened_store
from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.memory.reports import Action, Held, State, UseReport

__all__ = ["app"]


@app.command("report")
def report(
    agent: Annotated[
        str | None, typer.Option(help="Of this agent; without it, of each that there are memories of.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Whose the memories are, which are of use, what reading left out, and what you may want to look at."""
    import time

    from metaclaw.identity import agent_id
    from metaclaw.memory.reports import plan, report_owners, report_state, report_use

    with opened_store(to_look=True) as store:
        held = report_owners(store)
        agents = [agent_id(agent)] if agent else sorted({one.agent for one in held})
        held = [one for one in held if one.agent in agents]
        state = report_state(store)
        uses = {name: report_use(store, name) for name in agents}
        actions = {name: plan(store, name, time.time()) for name in agents}
    if as_json:
        of = {
            name: {
                "held": [asdict(one) for one in held if one.agent == name],
                "use": asdict(uses[name]),
                "actions": [asdict(action) for action in actions[name]],
            }
            for name in agents
        }
        typer.echo(json.dumps({"store": asdict(state), "agents": of}))
        return
    _say_state(state)
    for name in agents:
        _say_agent(name, [one for one in held if one.agent == name], uses[name], actions[name])


def _say_state(state: State) -> None:
    typer.echo(f"{counted(state.units, 'memory')} of {counted(state.agents, 'agent')}, history included")
    if state.waiting_exchanges:
        typer.echo(f"{counted(state.waiting_exchanges, 'exchange')} that passed elsewhere wait to be read")
    if state.last_read_at is not None:
        typer.echo(f"last read on {day_of(state.last_read_at)}")
    if state.uncleared:
        typer.echo(f"{state.uncleared} forgotten, whose bytes may be in the file still: `metaclaw memory doctor`")
    if state.copies:
        typer.echo(f"{counted(state.copies, 'copy')} made by backup and export: `metaclaw audit` names them")


def _say_agent(name: str, held: list[Held], use: UseReport, actions: list[Action]) -> None:
    typer.echo(f"\n{name}: {use.used} of {counted(use.units, 'memory')} recalled so far")
    for one in held:
        typer.echo(f"  {one.number}\t{'its own' if one.owner is None else f'{one.scope} {one.owner}'}")
    for one in use.most_used:
        typer.echo(f"  recalled {one.number}x, last on {day_of(one.last_at)}\t{one.id}\t{one.text}")
    typer.echo(f"  {use.units_found} found in {counted(use.exchanges_read, 'exchange')} that were read")
    if use.left_out:
        left_out = ", ".join(f"{number} {why}" for why, number in sorted(use.left_out.items()))
        typer.echo(f"  left out in reading: {left_out}")
    for action in actions:
        typer.echo(f"  {action.number} {action.what}: {action.how} ({', '.join(action.ids)})")
