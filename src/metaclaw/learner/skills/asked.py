"""The job that does what a command asked for.

Owns the kinds of requests; refuses to know how any of them is done. Invariant: every request is answered with a
sentence, also one that cannot be done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from metaclaw.errors import MetaClawError, NotFoundError
from metaclaw.journal.requests import Request, RequestStore
from metaclaw.journal.skill_records import Candidate
from metaclaw.journal.skill_trials import SkillTrials
from metaclaw.learner.deciding import NOT_DONE
from metaclaw.learner.failures import FailureFinder
from metaclaw.learner.skills.evolving import Evolving
from metaclaw.learner.skills.proving import Proving

EVERYBODY = "*"
_MOST_COMPARISONS = 60


class Asked:
    """Answers the requests about skills."""

    name = "requests about skills"
    poll_s = 1.0

    def __init__(
        self,
        *,
        requests_db: Path,
        trials: SkillTrials,
        proving: Proving,
        evolving: Evolving | None,
        failures: FailureFinder,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = requests_db
        self._trials = trials
        self._proving = proving
        self._evolving = evolving
        self._failures = failures
        self._clock = clock

    async def step(self) -> bool:
        """Answer what waits; return whether anything did."""
        if not self._path.exists():
            return False
        waiting = await asyncio.to_thread(self._waiting)
        for request in waiting:
            try:
                outcome = await self._do(request)
            except MetaClawError as error:
                outcome = f"{NOT_DONE}{error}"
            await asyncio.to_thread(self._answer, request.id, outcome)
        return bool(waiting)

    async def _do(self, request: Request) -> str:
        if request.kind == "evolve":
            return await self._evolve(request.agent)
        if request.kind == "retire":
            return await asyncio.to_thread(self._retire, request)
        candidate = await asyncio.to_thread(self._on_trial, request)
        if request.kind == "adopt":
            generation = await self._proving.adopt(candidate, "a human adopted it")
            return f"{candidate.name} is served to {candidate.agent}, generation {generation}"
        if request.kind == "trial":
            return await self._try(candidate)
        return f"{NOT_DONE}this release cannot {request.kind!r}"

    async def _try(self, candidate: Candidate) -> str:
        for _ in range(_MOST_COMPARISONS):
            if not await self._proving.try_once(candidate):
                break
            with self._trials.reading() as reader:
                found = reader.candidate(candidate.id)
            if found is None or found.state != "trial":
                return f"{candidate.name}: {found.reason if found else 'it is gone'}"
            candidate = found
        return f"{candidate.name}: {self._proving.verdict(candidate).reason}"

    async def _evolve(self, agent: str) -> str:
        if self._evolving is None:
            return f"{NOT_DONE}no model writes skills; `metaclaw setup --learn`, or set evolver.url and evolver.model"
        exchanges = (await asyncio.to_thread(self._failures.waiting)).get(agent, [])
        if not exchanges:
            return f"no exchange of {agent} failed lately that was not looked at"
        return await self._evolving.evolve(agent, exchanges)

    def _retire(self, request: Request) -> str:
        with self._trials.reading() as reader:
            agent = None if request.agent == EVERYBODY else request.agent
            found = reader.candidates(agent=agent, name=request.subject)
        for candidate in found:
            if candidate.state == "trial":
                self._trials.reject(candidate.id, "a human turned it down")
            elif candidate.state == "adopted":
                self._trials.retire(candidate.id, "a human retired it")
        return f"{request.subject} is not served to {request.agent}"

    def _on_trial(self, request: Request) -> Candidate:
        with self._trials.reading() as reader:
            found = reader.candidates(agent=request.agent, name=request.subject, state="trial")
        if not found:
            raise NotFoundError(f"{request.agent} has no skill {request.subject!r} on trial")
        return found[-1]

    def _waiting(self) -> list[Request]:
        store = RequestStore.open(self._path)
        try:
            return [one for one in store.waiting() if one.kind in ("evolve", "trial", "adopt", "retire")]
        finally:
            store.close()

    def _answer(self, number: int, outcome: str) -> None:
        store = RequestStore.open(self._path)
        try:
            store.answer(number, outcome, self._clock())
        finally:
            store.close()
