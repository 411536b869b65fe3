"""The order of one model's jobs: by ``seq_id``, never by arrival.

Owns what may wait and what comes next; refuses to know what a job does. Invariant: jobs come out exactly once, as
1, 2, 3 ... without a gap, and the one job that everything waits for is never refused for lack of room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from metaclaw.errors import ConflictError, OverloadedError
from metaclaw.training.api.admission import Place

T = TypeVar("T")

MAX_WAITING_JOBS = 2048
MAX_WAITING_BYTES = 512 * 1024 * 1024  # the SDK itself keeps at most 50 MB in flight


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting(Generic[T]):
    job: T
    num_bytes: int


class Lane(Generic[T]):
    """Jobs of one model. A gap holds back what follows it for as long as it stays open."""

    def __init__(self, first: int, *, max_jobs: int = MAX_WAITING_JOBS, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self._next = first
        self._max_jobs = max_jobs
        self._max_bytes = max_bytes
        self._waiting: dict[int, _Waiting[T]] = {}
        self._num_bytes = 0

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def admit(self, seq_id: int, num_bytes: int) -> None:
        """Raise ``ConflictError`` for a number whose turn has passed or is taken, ``OverloadedError`` if full."""
        if seq_id < self._next:
            raise ConflictError(
                f"seq_id {seq_id} was executed before and its result is no longer kept; the next is {self._next}"
            )
        if seq_id in self._waiting:
            raise ConflictError(f"seq_id {seq_id} is waiting already")
        if seq_id == self._next:
            return
        if len(self._waiting) >= self._max_jobs or self._num_bytes + num_bytes > self._max_bytes:
            raise OverloadedError(
                f"{len(self._waiting)} requests ({self._num_bytes} bytes) of this model wait for seq_id {self._next}"
            )

    def place(self, seq_id: int) -> Place:
        """Where ``seq_id`` would stand."""
        if seq_id != self._next:
            return "later"
        return "awaited" if self._waiting else "next"

    def put(self, seq_id: int, job: T, num_bytes: int) -> None:
        """Take ``job`` in; raises as ``admit`` does."""
        self.admit(seq_id, num_bytes)
        self._waiting[seq_id] = _Waiting(job=job, num_bytes=num_bytes)
        self._num_bytes += num_bytes

    def take(self) -> T | None:
        """The next job in order, or ``None`` while it has not arrived."""
        waiting = self._waiting.pop(self._next, None)
        if waiting is None:
            return None
        self._next += 1
        self._num_bytes -= waiting.num_bytes
        return waiting.job

    def drain(self) -> list[T]:
        """Every job that still waits, in order, gaps or not: what is left when the model is gone."""
        jobs = [self._waiting[seq_id].job for seq_id in sorted(self._waiting)]
        self._next = max(self._waiting, default=self._next - 1) + 1
        self._waiting.clear()
        self._num_bytes = 0
        return jobs
