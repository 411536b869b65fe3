"""Runs at Weights & Biases, or in its offline files.

Owns one run an agent and what that program may see; refuses to know what is measured. Invariant: it gets numbers: no
console output, no source, no repository, no host name, no list of packages, no figures about the machine. Where it
sends them and whose key it uses is its own configuration (``WANDB_MODE=offline``, ``wandb login``, ``WANDB_PROJECT``).
"""

# wandb's types are not strict.
# pyright: basic

from __future__ import annotations

import os
from pathlib import Path

import wandb

from metaclaw.errors import TrackingError
from metaclaw.learner.tracking.tracker import Point

_PROJECT = "metaclaw"


class WandbRuns:
    """``home`` is part of each run's id: two homes may have an agent of the same name."""

    def __init__(self, folder: Path, home: str) -> None:
        self._folder = folder
        self._home = home
        self._runs: dict[str, wandb.Run] = {}

    def add(self, point: Point) -> None:
        try:
            if point.agent not in self._runs:
                self._runs[point.agent] = self._begin(point.agent)
            self._runs[point.agent].log({**point.numbers, "finished_at": point.at}, step=point.step)
        except wandb.Error as error:
            raise TrackingError(
                f"Weights & Biases did not take update {point.step}: {error}. `wandb login` lets it in, "
                "WANDB_MODE=offline keeps it here, and rl.tracking none turns it off"
            ) from error

    def close(self) -> None:
        for run in self._runs.values():
            run.finish()
        self._runs.clear()

    def _begin(self, agent: str) -> wandb.Run:
        self._folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT), name=agent, id=f"{agent}-{self._home}", resume="allow",
            dir=str(self._folder), reinit="create_new",
            settings=wandb.Settings(
                console="off", silent=True, disable_code=True, save_code=False, disable_git=True,
                disable_job_creation=True, x_disable_meta=True, x_disable_machine_info=True, x_disable_stats=True,
                x_save_requirements=False, host="-", program="metaclaw",
            ),
        )  # fmt: skip


def create(folder: Path, home: str) -> WandbRuns:
    """Its own reports of errors are off: they could carry what was in memory."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    return WandbRuns(folder, home)
