"""The job that does what commands ask about policies.

Owns taking the requests and answering them; refuses to know how a decision is carried out. Invariant: every request is
answered with a sentence, also one that cannot be done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from metaclaw.errors import MetaClawError
from metaclaw.journal.requests import Request, RequestStore
from metaclaw.learner.decisions import KINDS, PolicyDecisions

NOT_DONE = "not done: "


class Deciding:
    """Answers the requests about policies."""

    name = "requests about policies"
    poll_s = 1.0

    def __init__(
        self, *, requests_db: Path, decisions: PolicyDecisions, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = requests_db
        self._decisions = decisions
        self._clock = clock

    async def step(self) -> bool:
        """Answer what waits; return whether anything did."""
        return await asyncio.to_thread(self._answer_all)

    def _answer_all(self) -> bool:
        if not self._path.exists():
            return False
        with closing(RequestStore.open(self._path)) as store:
            waiting = [request for request in store.waiting() if request.kind in KINDS]
            for request in waiting:
                store.answer(request.id, self._answer(request), self._clock())
        return bool(waiting)

    def _answer(self, request: Request) -> str:
        try:
            return self._decisions.carry_out(request.kind, request.agent, request.subject)
        except MetaClawError as error:
            return f"{NOT_DONE}{error}"
