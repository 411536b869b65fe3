"""Whose job is advanced next, when a device can do one thing at a time.

Owns the order between jobs and what each share has been given; refuses to know what a job does. Invariants: jobs of
one model run one after the other, in the order of their arrival; a share that has work is given as many tokens as
any other that has; no job waits for more than one micro-batch of another share's pass if its own share is behind.

A share is a tenant. It is the start-time fair queueing of networks: each share has a clock of the tokens it was
given, the share whose clock is behind goes next, and one that was idle starts at the time of the others, so that
idleness saves nothing up. Short jobs (a step, a save) go before all passes, one a share between two micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One command under way. ``work`` is advanced step by step by whoever took the job from the queue."""

    frame_id: int
    share: str
    model_id: str
    is_short: bool
    op: str
    work: Any


class FairQueue:
    """Jobs that are not finished."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []  # in order of arrival
        self._given: dict[str, float] = {}
        self._now = 0.0
        self._went_ahead: set[str] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Append a job."""
        busy = {other.share for other in self._jobs}
        if job.share not in busy:  # those who are idle and behind are forgotten: their clock starts at the others'
            self._given = {share: given for share, given in self._given.items() if share in busy or given > self._now}
            self._given.setdefault(job.share, self._now)
        self._jobs.append(job)

    def next(self) -> Job | None:
        """The job to advance now; it stays in the queue until ``remove``."""
        candidates = sorted(self._runnable(), key=lambda job: self._given[job.share])  # stable: then by arrival
        for job in candidates:
            if job.is_short and job.share not in self._went_ahead:
                self._went_ahead.add(job.share)
                return job
        self._went_ahead.clear()
        if not candidates:
            return None
        self._now = max(self._now, self._given[candidates[0].share])
        return candidates[0]

    def charge(self, job: Job, tokens: int) -> None:
        """Count what a step of ``job`` took."""
        self._given[job.share] += tokens

    def find(self, frame_id: int) -> Job | None:
        """The unfinished job that answers ``frame_id``."""
        return next((job for job in self._jobs if job.frame_id == frame_id), None)

    def remove(self, job: Job) -> None:
        """Take out a finished job."""
        self._jobs.remove(job)

    def _runnable(self) -> Iterator[Job]:
        busy: set[str] = set()
        for job in self._jobs:
            if job.model_id not in busy:
                yield job
            busy.add(job.model_id)
