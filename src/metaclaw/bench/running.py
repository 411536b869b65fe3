"""All days of a run.

Owns their order and what becomes of one that breaks off; refuses to know how a day is played. Invariant: a day is kept
when it was played to its end; after one that broke off none is begun, since the days after it would be those of an
agent that had not had it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metaclaw.bench.days import Day
from metaclaw.bench.nights import Night
from metaclaw.bench.playing import Player
from metaclaw.bench.results import PlayedDay, keep_day, read_days, remaining
from metaclaw.errors import MetaClawError


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenOff:
    """A day that was not played to its end, and why."""

    day: str
    why: str


async def play_days(
    player: Player,
    days: Sequence[Day],
    folder: Path,
    *,
    night: Night | None,
    concurrency: int,
    new_id: Callable[[], str],
    done: Callable[[PlayedDay], None],
) -> list[BrokenOff]:
    """Play what remains of ``days``, ``concurrency`` at a time, and keep each in ``folder``; what broke off.

    With a ``night`` one day follows another, and it comes between them.
    """
    slots = asyncio.Semaphore(1 if night is not None else concurrency)
    broken, left = list[BrokenOff](), set(remaining([day.id for day in days], folder))

    async def one(day: Day) -> None:
        async with slots:
            if broken:
                return
            try:
                played = await player.play(day, session=f"bench-{new_id()}")
                keep_day(folder, played)
                done(played)
                left.discard(day.id)
                if night is not None and left:
                    await night.after(played.session, num_days=len(read_days(folder)))
            except (MetaClawError, OSError) as error:
                broken.append(BrokenOff(day=day.id, why=str(error)))

    async with asyncio.TaskGroup() as group:
        for day in [day for day in days if day.id in left]:
            group.create_task(one(day))
    return broken
