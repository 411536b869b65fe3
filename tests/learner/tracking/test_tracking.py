"""Curves of updates: numbers alone, each update once, and only when somebody asked for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metaclaw.config import RlSettings, Settings
from metaclaw.errors import TrackingError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Baseline, NewVersion, Sample
from metaclaw.learner.tracking.assembly import tracking_for
from metaclaw.learner.tracking.following import Tracking
from metaclaw.learner.tracking.tracker import Point

pytestmark = pytest.mark.anyio

PROMPT = "My sister Ada lives at 12 Elm Street."
METRICS = {
    "kl": 0.01, "reward_mean": 0.5, "shortened": 0, "ratio_p99": None, "gate/verdict": PROMPT,
    "seconds": {"save": 1.5, PROMPT: 3.0}, "excluded": {"stale": 2}, "examples": [PROMPT], PROMPT: 1.0,
}  # fmt: skip


@dataclass
class Curves:
    """What a tracker was told; the point that it must not take raises."""

    points: list[Point] = field(default_factory=list)
    refuses: int | None = None
    home: str = ""

    def add(self, point: Point) -> None:
        if point.step == self.refuses:
            raise TrackingError("nobody answers")
        self.points.append(point)

    def close(self) -> None:
        pass

    @property
    def steps(self) -> list[tuple[str, int]]:
        return [(point.agent, point.step) for point in self.points]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[LearningJournal]:
    with LearningJournal.open(tmp_path / "learning.db") as opened:
        yield opened


def tracking_to(curves: Curves, home: Path) -> Tracking:
    def make(name: str) -> Curves:
        curves.home = name
        return curves

    return Tracking(
        learning_db=home / "learning.db", state=home / "tracking" / "x.json", make=make, new_home=lambda: "home1"
    )


def updated(journal: LearningJournal, agent: str, *, is_good: bool = True) -> int:
    """An update of one turn, committed or rejected with a reason that quotes the user."""
    number = journal.next_version(agent)
    turn = f"{agent}-{number}-{journal.pending(agent)}-{len(journal.versions(agent))}"
    sample = Sample(turn=turn, exchange=turn, agent=agent, version=0, reward=1.0, sampled_at=1.0)
    journal.record_verdict(exchange=turn, agent=agent, judge="j", score=1.0, detail={"said": PROMPT}, samples=[sample])
    update = journal.claim(agent, journal.serving(agent), [turn])
    if is_good:
        new = NewVersion(base_model="m", state_path=f"s{update}", sampler_path=f"w{update}")
        journal.commit(update, new, number=number, baseline=Baseline(value=0.0, num_rewards=1), metrics=METRICS)
    else:
        journal.reject(update, f"it says {PROMPT}", baseline=Baseline(value=0.0, num_rewards=1), metrics=METRICS)
    return update


async def test_each_finished_update_is_told_once_also_after_a_restart(journal: LearningJournal, tmp_path: Path) -> None:
    first, second = updated(journal, "main"), updated(journal, "other", is_good=False)
    curves = Curves()
    assert await tracking_to(curves, tmp_path).step()
    third = updated(journal, "main")
    again = tracking_to(curves, tmp_path)
    assert await again.step()
    assert not await again.step()
    assert curves.steps == [("main", first), ("other", second), ("main", third)]
    assert [point.numbers["committed"] for point in curves.points] == [1.0, 0.0, 1.0]
    assert curves.home == "home1"


async def test_nothing_but_numbers_leaves(journal: LearningJournal, tmp_path: Path) -> None:
    updated(journal, "main")
    updated(journal, "main", is_good=False)
    curves = Curves()
    await tracking_to(curves, tmp_path).step()
    assert [dict(point.numbers) for point in curves.points] == [
        {"kl": 0.01, "reward_mean": 0.5, "shortened": 0, "seconds/save": 1.5, "excluded/stale": 2.0, "committed": good}
        for good in (1.0, 0.0)
    ]
    assert "Ada" not in repr(curves.points)


async def test_what_a_tracker_did_not_take_is_told_again(journal: LearningJournal, tmp_path: Path) -> None:
    first, second = updated(journal, "main"), updated(journal, "main")
    curves = Curves(refuses=second)
    tracking = tracking_to(curves, tmp_path)
    with pytest.raises(TrackingError):
        await tracking.step()
    curves.refuses = None
    await tracking.step()
    assert curves.steps == [("main", first), ("main", second)]


def test_no_tracker_is_imported_by_default() -> None:
    """PITFALLS S12: wandb was on wherever it was installed."""
    code = """
import sys
from metaclaw.config import Settings
from metaclaw.learner.tracking.assembly import tracking_for
assert tracking_for(Settings()) is None
assert not {"wandb", "tensorboard"} & set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_tensorboard_reads_what_was_written(journal: LearningJournal, tmp_path: Path) -> None:
    first, second = updated(journal, "main"), updated(journal, "main")
    tracking = tracking_for(Settings(home=tmp_path, rl=RlSettings(tracking="tensorboard")))
    assert tracking is not None
    await tracking.step()
    await tracking.close()
    curves = EventAccumulator(str(tmp_path / "tracking" / "tensorboard" / "main"))
    curves.Reload()
    assert [(event.step, round(event.value, 4)) for event in curves.Scalars("kl")] == [(first, 0.01), (second, 0.01)]
    assert "seconds/save" in curves.Tags()["scalars"]


async def test_wandb_keeps_numbers_in_a_file_without_a_network(
    journal: LearningJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    updated(journal, "main")
    updated(journal, "main", is_good=False)
    tracking = tracking_for(Settings(home=tmp_path, rl=RlSettings(tracking="wandb")))
    assert tracking is not None
    await tracking.step()
    await tracking.close()
    (written,) = (tmp_path / "tracking" / "wandb" / "wandb").glob("offline-run-*/run-main-*.wandb")
    async with asyncio.timeout(60):
        while b"reward_mean" not in written.read_bytes():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "tracking").rglob("*") if path.is_file())
    assert b"Ada" not in everything
