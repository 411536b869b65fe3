"""``metaclaw journal``: what was recorded, read, checked and given up."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.config import Settings

_MOST = 1e9  # days or megabytes; infinitely many are no limit, which is 0
app = typer.Typer(help="The record of all turns (turns.db).", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("export")
def export(
    agent: Annotated[str | None, typer.Option(help="Only this agent's turns.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this session's turns.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only turns from this time on, such as 2026-11-25.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only turns before this time.")] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="With the tokens that the policy drew, in base64.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array rather than a line for each turn.")] = False,
) -> None:
    """Print every turn with its messages and its answer as a line of JSON."""
    from metaclaw.config_file import load_settings
    from metaclaw.journal.export import export_turns
    from metaclaw.journal.skill_reader import SkillReader
    from metaclaw.journal.turns import TurnReader

    settings = load_settings()
    with TurnReader.open(settings.turns_db) as reader, SkillReader.open(settings.learning_db) as skills:
        turns = export_turns(
            reader,
            agent=agent,
            session=session,
            since=since.timestamp() if since else None,
            until=until.timestamp() if until else None,
            with_tokens=tokens,
            generation=skills.generation,
        )
        if not as_json:
            for turn in turns:
                typer.echo(json.dumps(turn))
            return
        before = "["  # written as it is read: a large journal needs no large memory
        for turn in turns:
            typer.echo(before + json.dumps(turn), nl=False)
            before = ",\n"
        typer.echo("[]" if before == "[" else "]")


@app.command("prune")
def prune(
    max_age_days: Annotated[float | None, typer.Option(min=0, max=_MOST, help="Give up older turns.")] = None,
    max_size_mb: Annotated[
        float | None, typer.Option(min=0, max=_MOST, help="Give up the oldest until it holds less.")
    ] = None,
    session: Annotated[str | None, typer.Option(help="Give up all of this session, and the feedback on it.")] = None,
    agent: Annotated[str, typer.Option(help="Whose session.")] = "main",
    as_json: AsJson = False,
) -> None:
    """Give up old turns or a session while MetaClaw is stopped, and shrink the file. What an update still needs stays.

    A running gateway gives up old ones by itself: see journal.max_age_days and journal.max_size_mb.
    """
    from dataclasses import replace

    from metaclaw.config_file import load_settings
    from metaclaw.errors import ConfigError
    from metaclaw.journal.retention import Retention, prune_stopped

    settings = load_settings()
    if session is not None:
        if max_age_days is not None or max_size_mb is not None:
            raise ConfigError("--session goes by itself, without --max-age-days and --max-size-mb")
        _prune_session(settings, agent, session, as_json)
        return
    age = settings.journal.max_age_days if max_age_days is None else max_age_days
    size = settings.journal.max_size_mb if max_size_mb is None else max_size_mb
    retention = Retention(max_age_days=age, max_size_mb=size)
    if max_age_days is None:
        retention = replace(retention, max_age_days_of=settings.agents.max_age_days_of)
    if retention.is_off:
        raise ConfigError(
            "say what to give up: --max-age-days or --max-size-mb, above 0 (or the settings journal.max_*)"
        )
    pruned = prune_stopped(settings.turns_db, settings.learning_db, retention)
    typer.echo(json.dumps({"pruned": pruned}) if as_json else f"{counted(pruned, 'turn')} given up")


def _prune_session(settings: Settings, agent: str, session: str, as_json: bool) -> None:
    from metaclaw.errors import NotFoundError
    from metaclaw.identity import agent_id
    from metaclaw.journal.retention import prune_session_stopped

    agent = agent_id(agent)
    pruned, left = prune_session_stopped(settings.turns_db, settings.learning_db, agent, session)
    if not pruned and not left:
        raise NotFoundError(f"agent {agent!r} has no session {session!r}; `metaclaw why TURN` says which a turn is in")
    if as_json:
        typer.echo(json.dumps({"pruned": pruned, "left": left}))
        return
    typer.echo(f"{counted(pruned, 'turn')} given up")
    if left:
        typer.echo(f"{counted(left, 'turn')} more: an update may still train on what was said there", err=True)


@app.command("verify")
def verify(as_json: AsJson = False) -> None:
    """Check the file, its references, every message's hash and the spool; exit code 1 when something is wrong."""
    from dataclasses import asdict

    from metaclaw.config_file import load_settings
    from metaclaw.journal.verification import verify as verified

    found = verified(load_settings().turns_db)
    if as_json:
        typer.echo(json.dumps({"ok": not found.problems, **asdict(found)}))
    else:
        typer.echo(
            f"{counted(found.num_turns, 'turn')}, {counted(found.num_messages, 'message')},"
            f" {counted(found.spool_records, 'record')} in the spool"
        )
        for problem in found.problems:
            typer.echo(f"PROBLEM: {problem}", err=True)
    raise typer.Exit(1 if found.problems else 0)


@app.command("stats")
def stats(as_json: AsJson = False) -> None:
    """How many turns, tokens and dollars, by agent."""
    from dataclasses import asdict

    from metaclaw.config_file import load_settings
    from metaclaw.journal.turn_statistics import read_statistics

    found = read_statistics(load_settings().turns_db)
    if as_json:
        typer.echo(json.dumps([asdict(agent) for agent in found]))
        return
    for agent in found:
        unknown = f" and {counted(agent.unpriced, 'turn')} of unknown price" if agent.unpriced else ""
        cost = f"{agent.cost_usd:.2f} USD{unknown}"
        states = f"{counted(agent.turns, 'turn')} ({agent.failed} failed, {agent.cut} cut)"
        typer.echo(f"{agent.agent}: {states}, {agent.prompt_tokens}+{agent.completion_tokens} tokens, {cost}")
