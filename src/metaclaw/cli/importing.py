"""``metaclaw import``: what other systems left on this machine."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.cli.older_home import MemoryReport, Report

app = typer.Typer(help="Take in what another system learned.", no_args_is_help=True)


@app.callback()
def _import() -> None:
    """Take in what another system learned."""


@app.command("metaclaw")
def metaclaw(
    path: Annotated[
        Path, typer.Argument(help="The home of the older MetaClaw or its fork: mostly ~/.metaclaw, or a copy.")
    ],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", "--apply", help="Do it; without it, only say what would be done.")
    ] = False,
    agent: Annotated[str, typer.Option(help="Whose the memories are that are nobody's there.")] = "main",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Settings, skills and memories of the older MetaClaw. Nothing of it is changed. MetaClaw may run."""
    from metaclaw.cli.older_home import import_home
    from metaclaw.config_file import load_settings
    from metaclaw.identity import agent_id

    report = import_home(
        path.expanduser().absolute(), load_settings(), default_agent=agent_id(agent), now=time.time(), apply=yes
    )
    if as_json:
        typer.echo(json.dumps(_shown(report), default=str))
        return
    for line in _lines(report):
        typer.echo(line)


def _shown(report: Report) -> dict[str, Any]:
    settings = {name: _masked(name, value) for name, value in report.settings.values.items()}
    return {**asdict(report), "settings": settings, "settings_notes": report.settings.notes}


def _masked(name: str, value: object) -> object:
    from metaclaw.config_keys import require_key

    return "***" if require_key(name).secret else value


def _lines(report: Report) -> list[str]:
    lines = [f"{report.source} {'is taken in' if report.applied else 'would be taken in so'}:", "settings"]
    lines += [f"  {name}: {_masked(name, value)}" for name, value in report.settings.values.items()]
    lines += [f"  - {note}" for note in report.settings.notes]
    if report.is_own_home:
        lines.append("  - they are read where they are: this is the home of this MetaClaw")
    elif not report.settings.values:
        lines.append("  nothing to set")
    lines.append("skills")
    for one in report.skills:
        written = " (its model wrote it)" if one.was_evolved else ""
        lines.append(f"  {one.state}\t{one.owner}/{one.name or one.where}{written}")
        lines += [f"    - {note}" for note in one.notes]
    lines.append("memories")
    lines += _of_memories(report.memories)
    lines += ["not taken", *(f"  {name}: {why}" for name, why in report.left.items())] if report.left else []
    if not report.applied:
        lines.append("Nothing was changed. The same command with --yes does it.")
    return lines


def _of_memories(report: MemoryReport | None) -> list[str]:
    if report is None:
        return ["  there are none"]
    lines = [
        f"  {report.found} found: {report.new} new, {report.known} here already, {report.forgotten} forgotten here"
    ]
    lines += [f"  {number} {kind}" for kind, number in sorted(report.by_kind.items())]
    lines += [f"  {number} of {agent}" for agent, number in sorted(report.by_agent.items())]
    lines += [f"  left out: {number} ({why})" for why, number in sorted(report.left_out.items())]
    lines += [f"  left out: {counted(number, 'row')} of {table}" for table, number in sorted(report.beside.items())]
    return lines
