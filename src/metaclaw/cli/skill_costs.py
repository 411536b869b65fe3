"""What writing and trying skills cost, as commands say it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.journal.skill_costs import SkillCosts, Spent


def evolutions(learning_db: Path, agent: str | None) -> list[dict[str, Any]]:
    """Each time that an evolver was asked, oldest first, as an entry of the log."""
    from dataclasses import asdict

    from metaclaw.journal.skill_reader import SkillReader

    with SkillReader.open(learning_db) as reader:
        found = reader.evolutions(agent)
    return [
        {"action": "evolve", "at": datetime.fromtimestamp(at, UTC).isoformat(), **asdict(run)}
        for at, run in reversed(found)
    ]


def evolution_line(entry: dict[str, Any]) -> str:
    """One line of the log."""
    from metaclaw.journal.skill_costs import Spent

    tokens, cost = entry["prompt_tokens"], entry["cost_usd"]
    spent = Spent(
        num_asked=1,
        prompt_tokens=tokens or 0,
        completion_tokens=entry["completion_tokens"] or 0,
        cost_usd=cost or 0.0,
        num_unknown_tokens=int(tokens is None),
        num_unknown_costs=int(cost is None),
    )
    outcome = entry["error"] or "; ".join(f"refused {reason}" for reason in entry["refused"]) or "nothing refused"
    at = datetime.fromisoformat(entry["at"])
    asked = f"{entry['author']} was asked about {counted(entry['num_failures'], 'failure')}"
    return f"{at:%Y-%m-%d %H:%M:%S}\t{entry['agent']}\tevolve\t{asked} ({_said(spent)})\t{outcome}"


def cost_line(costs: SkillCosts) -> str | None:
    """What all of it cost; ``None`` where nothing was asked."""
    said = [
        f"{what} {_said(spent)}" for what, spent in (("written for", costs.evolving), ("tried for", costs.trials))
        if spent.num_asked
    ]  # fmt: skip
    return f"skills: {', '.join(said)} (judging not counted)" if said else None


def trial_cost(spent: Spent) -> str:
    """What one skill's replays took."""
    return f"{counted(spent.num_asked, 'replay')}, {_said(spent)} (judging not counted)"


def _said(spent: Spent) -> str:
    tokens = f"{spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens"
    if spent.num_unknown_tokens:
        tokens += f" and an unknown number of {counted(spent.num_unknown_tokens, 'more time')}"
    if spent.num_unknown_costs == spent.num_asked:
        return f"{tokens}, cost unknown"
    more = f" and an unknown cost of {counted(spent.num_unknown_costs, 'more time')}" if spent.num_unknown_costs else ""
    return f"{tokens}, {spent.cost_usd:.4f} USD{more}"
