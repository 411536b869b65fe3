"""Asking the learner for an update now, and what became of it.

Owns what such a request holds and how its answer is written down; refuses to know how an update is made. Invariant: a
request that nobody waits for any more is not done: it says until when it counts.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from metaclaw.journal.requests import Request, RequestStore

EVERY_AGENT = "*"
_KIND = "train_step"


class TrainAnswer(BaseModel):
    """What became of a request: a version (``ok``), none yet (``skipped``), a refused one, or a failure.

    ``step`` is the number of the new version, ``success_rate`` the share of its samples with a reward above zero.
    """

    model_config = ConfigDict(frozen=True)

    status: Literal["ok", "skipped", "refused", "error"]
    agent: str
    reason: str
    step: int | None = None
    samples: int | None = None
    mean_reward: float | None = None
    success_rate: float | None = None


class TrainSteps:
    """The requests in one ``requests.db``. Every method opens and closes it, and may raise ``JournalError``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, agent: str, *, now: float, until: float) -> int:
        """Ask for an update of ``agent``, or of whoever has enough; return the request's number."""
        with self._store() as store:
            return store.ask(_KIND, agent=agent, subject=repr(until), now=now)

    def waiting(self, now: float) -> list[Request]:
        """What is still to be done, oldest first; what came too late is answered so."""
        if not self._path.exists():
            return []
        with self._store() as store:
            asked = [request for request in store.waiting() if request.kind == _KIND]
            late = [request for request in asked if float(request.subject) < now]
            for request in late:
                missed = TrainAnswer(status="error", agent=request.agent, reason="nobody waited for it any longer")
                store.answer(request.id, missed.model_dump_json(), now)
        return [request for request in asked if request not in late]

    def answer(self, number: int, answer: TrainAnswer, now: float) -> None:
        with self._store() as store:
            store.answer(number, answer.model_dump_json(), now)

    def answered(self, number: int) -> TrainAnswer | None:
        """The answer to a request; ``None`` while there is none."""
        with self._store() as store:
            request = store.request(number)
        if request is None or request.outcome is None:
            return None
        try:
            return TrainAnswer.model_validate_json(request.outcome)
        except ValidationError:  # written by another release
            return TrainAnswer(status="error", agent=request.agent, reason=request.outcome)

    @contextmanager
    def _store(self) -> Generator[RequestStore]:
        store = RequestStore.open(self._path)
        try:
            yield store
        finally:
            store.close()
