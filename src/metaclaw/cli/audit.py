"""``metaclaw audit``: whether what was forgotten is gone."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.origins import remedy
from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.config import Settings
    from metaclaw.memory.audit import Audit


def audit(
    text: Annotated[
        str | None,
        typer.Option(help="Also look for these words in the bytes of every file of the home; '-' reads them."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prove that what was forgotten is gone; exit code 1 when something of it is left, or --text is found.

    Also says what forgetting cannot undo: skills and policy versions that were made of the same turns, copies of the
    memory, and the turns themselves.
    """
    from metaclaw.config_file import load_settings
    from metaclaw.memory.audit import audit, files_with
    from metaclaw.memory.store import MemoryStore

    settings = load_settings()
    words = sys.stdin.read().strip() if text == "-" else text
    with MemoryStore.open(settings.memory_db) as store:
        found = audit(store, turns_db=settings.turns_db, learning_db=settings.learning_db)
    where = files_with(settings.home, words) if words else []
    is_ok = not found.problems and not where
    files = [{"file": str(path), "number": number} for path, number in where]
    if as_json:
        made = [{**asdict(one), "is_served": one.is_served, "remedy": remedy(one)} for one in found.descendants]
        typer.echo(json.dumps({"ok": is_ok, **asdict(found), "descendants": made, "files": files}))
    else:
        for line in [*_problems(found, files), *_beyond(found), *_said_in(found, settings)]:
            typer.echo(line)
        if is_ok:
            typer.echo(f"of {found.forgotten} memories that were forgotten nothing is left")
    raise typer.Exit(0 if is_ok else 1)


def _problems(found: Audit, files: list[dict[str, Any]]) -> list[str]:
    lines = [f"PROBLEM: {one.number} {one.what}: {one.cure}" for one in found.problems]
    return lines + [f"PROBLEM: the words are in {one['file']} ({counted(one['number'], 'time')})" for one in files]


def _beyond(found: Audit) -> list[str]:
    lines: list[str] = []
    for one in found.descendants:
        what = "skill" if one.kind == "skill" else "policy version"
        todo = f": {remedy(one)}" if remedy(one) else ""
        lines.append(f"made of turns that held it: {what} {one.name} of {one.agent} ({one.state}){todo}")
    for copy in found.copies:
        lines.append(f"out of reach: the {copy.kind} {copy.path} has {copy.number} of them: delete it")
    return lines


def _said_in(found: Audit, settings: Settings) -> list[str]:
    from metaclaw.journal.turns import TurnReader

    if not found.turns:
        return []
    with TurnReader.open(settings.turns_db) as reader:
        turns = [turn for one in found.turns if (turn := reader.turn(one)) is not None]
    sessions = Counter((turn.agent, turn.session) for turn in turns)
    return [
        f"out of reach: {counted(number, 'recorded turn')} in which it was said, which go with their session: "
        f"`metaclaw journal prune --agent {agent} --session {shlex.quote(session)}`"
        for (agent, session), number in sessions.items()
    ]
