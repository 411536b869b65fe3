"""The live table and the closing report.

Owns what is printed; refuses to compute anything but means. On a terminal the table is redrawn in place; in a log
file one line is written per update.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from demo.evaluation import Change
from demo.prompts import Prompt


@dataclass(slots=True)
class Counters:
    phase: str = "starting"
    turns: int = 0
    updates: int = 0
    planned_updates: int = 0
    rejected: int = 0
    version: int = 0
    recent_reward: float | None = None  # mean of the latest batch
    tokens: int = 0
    answering_s: float = 0.0  # time during which at least one answer was streaming
    failed: int = 0
    started_at: float = field(default_factory=time.monotonic)

    @property
    def reward(self) -> str:
        return "-" if self.recent_reward is None else f"{self.recent_reward:.2f}"

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.answering_s if self.answering_s else 0.0


class Screen:
    def __init__(self, counters: Counters) -> None:
        self.console = Console()
        self._counters = counters
        self._live = Live(console=self.console, get_renderable=self._table, refresh_per_second=2)

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def say(self, text: str) -> None:
        """Start a new phase."""
        self._counters.phase = text
        elapsed = time.monotonic() - self._counters.started_at
        self.console.print(f"[dim]{elapsed:6.0f} s[/dim]  {text}", highlight=False, soft_wrap=True)

    def update_done(self) -> None:
        c = self._counters
        if not self.console.is_terminal:
            elapsed = time.monotonic() - c.started_at
            self.console.print(
                f"{elapsed:6.0f} s  update {c.updates:2}/{c.planned_updates}  version {c.version:2}  "
                f"turns {c.turns:4}  mean reward {c.reward}  {c.tokens_per_s:5.1f} tokens/s  "
                f"failed {c.failed}",
                highlight=False,
                soft_wrap=True,
            )

    def _table(self) -> Table:
        c = self._counters
        table = Table(title=c.phase, title_justify="left")
        columns = {
            "turns": str(c.turns),
            "mean reward": c.reward,
            "updates": f"{c.updates}/{c.planned_updates}" + (f" ({c.rejected} rejected)" if c.rejected else ""),
            "policy version": str(c.version),
            "tokens/s": f"{c.tokens_per_s:.1f}",
            "failed requests": str(c.failed),
            "seconds": f"{time.monotonic() - c.started_at:.0f}",
        }
        for name in columns:
            table.add_column(name, justify="right")
        table.add_row(*columns.values())
        return table

    def changes(self, rows: Mapping[str, Change]) -> None:
        table = Table(title="held-out questions, before and after", title_justify="left")
        for name in ("", "before", "after", "difference", "95 % interval"):
            table.add_column(name, justify="left" if not name else "right")
        for name, change in rows.items():
            interval = f"[{change.low:+.3f}, {change.high:+.3f}]"
            table.add_row(name, f"{change.before:.3f}", f"{change.after:.3f}", f"{change.mean:+.3f}", interval)
        self.console.print(table)

    def examples(self, triples: list[tuple[Prompt, str, str]]) -> None:
        for prompt, before, after in triples:
            self.console.print(
                f"\n[bold]{prompt.text}[/bold]\n  before: {_line(before)}\n  after:  {_line(after)}", highlight=False
            )

    def memory(self, peaks: Mapping[str, float], total: float) -> None:
        parts = ", ".join(f"{name} {mib:.0f}" for name, mib in sorted(peaks.items()))
        self.console.print(
            f"\npeak memory in MiB (shared pages divided): {parts}; at once {total:.0f}", highlight=False
        )


def _line(text: str) -> str:
    return " ".join(text.split()).replace("[", r"\[")
