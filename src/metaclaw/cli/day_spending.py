"""What models took in a day for learning, and their caps: lines of ``metaclaw status``."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from metaclaw.config import RlSettings
    from metaclaw.journal.judge_statistics import CallsSpent

_DAY_S = 86_400.0


class _Caps(Protocol):
    @property
    def max_tokens_per_day(self) -> int: ...

    @property
    def max_usd_per_day(self) -> float: ...


def spent_today(rl: RlSettings, learning_db: Path) -> dict[str, dict[str, Any]]:
    """What ``judging`` exchanges and ``teaching`` took in 24 hours, with their caps."""
    from metaclaw.journal.judge_statistics import read_spent

    since = time.time() - _DAY_S
    return {
        "judging": _against(read_spent(learning_db, "judging", since=since), rl.judge),
        "teaching": _against(read_spent(learning_db, "teaching", since=since), rl.opd),
    }


def spent_lines(today: dict[str, dict[str, Any]]) -> list[str]:
    """They as lines of ``metaclaw status``; none of what no model was asked for."""
    late = {
        "judging": "what is said now is judged later (rl.judge.max_*_per_day)",
        "teaching": "what is to be taught waits (rl.opd.max_*_per_day)",
    }
    return [_line(doing, spent, late[doing]) for doing, spent in today.items() if spent["num_answers"]]


def _against(spent: CallsSpent, caps: _Caps) -> dict[str, Any]:
    over_tokens = bool(caps.max_tokens_per_day) and spent.tokens >= caps.max_tokens_per_day
    over_usd = bool(caps.max_usd_per_day) and spent.cost_usd >= caps.max_usd_per_day
    return {
        **asdict(spent),
        "max_tokens": caps.max_tokens_per_day,
        "max_usd": caps.max_usd_per_day,
        "is_over": over_tokens or over_usd,
    }


def _line(doing: str, today: dict[str, Any], late: str) -> str:
    cap = f" of {today['max_tokens']:,}" if today["max_tokens"] else ""
    usd = f" of {today['max_usd']:.2f}" if today["max_usd"] else ""
    over = f"; AT ITS CAP: {late}" if today["is_over"] else ""
    cost = "cost unknown" if today["num_unknown_costs"] == today["num_answers"] else f"{today['cost_usd']:.2f}{usd} USD"
    return f"{doing}: {today['tokens']:,}{cap} tokens in 24 hours, {cost}{over}"
