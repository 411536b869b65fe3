"""``metaclaw judge stats``: how far the judge can be trusted, what it left unjudged, and what it took."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.journal.judge_statistics import JudgeFacts

app = typer.Typer(help="Who scores exchanges, and how well.", no_args_is_help=True)


@app.callback()
def judge() -> None:
    """Who scores exchanges, and how well."""


@app.command("stats")
def stats(
    agent: Annotated[str | None, typer.Option(help="Of this agent alone.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only from this time on, such as 2026-11-25.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How far judges agree with what persons said, what is unjudged and why, how votes fell, and what it took."""
    from metaclaw.config_file import load_settings
    from metaclaw.identity import agent_id
    from metaclaw.journal.judge_statistics import read_facts

    start = since.timestamp() if since else 0.0
    found = read_facts(load_settings().learning_db, agent=agent and agent_id(agent), since=start)
    told = [_told(facts) for facts in found]
    if as_json:
        typer.echo(json.dumps({"since": since.isoformat() if since else None, "agents": told}))
        return
    if not told:
        typer.echo("nothing was judged yet")
    for one in told:
        typer.echo("\n".join(_lines(one)))


def _told(facts: JudgeFacts) -> dict[str, Any]:
    from metaclaw.learner.judges.agreement import CLASSES, agreement_of

    agreements = {source: asdict(agreement_of(pairs)) for source, pairs in sorted(facts.pairs.items())}
    unanimous = [len(set(votes)) == 1 for votes, _ in facts.votes if len(votes) > 1]
    cast = sum(len(votes) + invalid for votes, invalid in facts.votes)
    return {
        "agent": facts.agent,
        "judged": facts.judged,
        "unjudged": facts.unjudged,
        "classes": CLASSES,
        "agreement_with_feedback": agreements,
        "votes": {
            "num_exchanges": len(facts.votes),
            "unanimous": sum(unanimous) / len(unanimous) if unanimous else None,
            "invalid": sum(invalid for _, invalid in facts.votes) / cast if cast else None,
        },
        "late_feedback": facts.late,
        "spent": {purpose: asdict(spent) for purpose, spent in facts.spent.items()},
    }


def _lines(one: dict[str, Any]) -> list[str]:
    judged = ", ".join(f"{number} by {source}" for source, number in sorted(one["judged"].items())) or "none"
    lines = [f"{one['agent']}: judged: {judged}"]
    if one["unjudged"]:
        lines.append(
            "  unjudged: " + ", ".join(f"{number} {cause}" for cause, number in sorted(one["unjudged"].items()))
        )
    for source, found in one["agreement_with_feedback"].items():
        lines += _agreement_lines(source, found)
    if not one["agreement_with_feedback"]:
        lines.append("  no exchange has both a person's score and a judge's: how good the judge is, is not known")
    votes = one["votes"]
    if votes["unanimous"] is not None:
        lines.append(f"  votes: {votes['unanimous']:.0%} unanimous, {votes['invalid']:.0%} not valid")
    late = one["late_feedback"]
    if late["num_feedback"]:
        lines.append(
            f"  late feedback: {late['num_feedback']}; rewards changed {late['num_changed']}, in an update then"
            f" {late['num_claimed']}, too late {late['num_spent']}"
        )
    for purpose, what in (("exchange", "judging exchanges"), ("pair", "comparing for the gate")):
        spent = one["spent"][purpose]
        if spent["num_answers"]:
            lines.append(f"  {what}: {_said(spent)}")
    return lines


def _agreement_lines(source: str, found: dict[str, Any]) -> list[str]:
    low, high = found["agreement_interval"]
    line = (
        f"  {source} agrees with persons on {found['agreement']:.0%} of {found['num_pairs']} ({low:.0%} to {high:.0%})"
    )
    if found["kappa"] is None:
        line += "; kappa cannot be told: too few, or all alike"
    else:
        low, high = found["kappa_interval"]
        line += f"; kappa {found['kappa']:.2f} ({low:.2f} to {high:.2f})"
    table = [f"    {said}: {row[0]} bad, {row[1]} neutral, {row[2]} good"
             for said, row in zip(("bad", "neutral", "good"), found["table"], strict=True)]  # fmt: skip
    return [line, "    what persons called (left), the judge called:", *table]


def _said(values: dict[str, Any]) -> str:
    estimate = f" ({counted(values['num_estimates'], 'answer')} estimated)" if values["num_estimates"] else ""
    unknown = f", cost of {values['num_unknown_costs']} unknown" if values["num_unknown_costs"] else ""
    took = f"{counted(values['num_answers'], 'answer')}, {counted(values['tokens'], 'token')}{estimate}"
    return f"{took}, {values['cost_usd']:.4f} USD{unknown}"
