"""Skills on experiment, for whoever recalls.

Owns which candidates an agent has on experiment and who of its messages gets one; refuses to know how they fare.
Invariant: a message is given the same candidates whenever it is sent, and what was turned down is served to nobody.

What was recalled on experiment is named ``trial:<id>`` among the items of a block, so that it is never taken for a
skill of the folder; it stays in old blocks while it is on trial or adopted, and the prompt's prefix with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metaclaw.errors import JournalError
from metaclaw.journal.skill_reader import SkillReader
from metaclaw.skills.skill import Skill
from metaclaw.skills.trial.arms import is_served

TRIAL_ITEM = "trial:"
_FRESH_S = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnExperiment:
    """A candidate that is served to a share of an agent's messages."""

    candidate: str
    agent: str
    share: float
    skill: Skill

    @property
    def item(self) -> str:
        """Its name among the items of a block."""
        return TRIAL_ITEM + self.candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentView:
    """The experiments of a moment. ``standing`` are the items that may stay where they are."""

    experiments: tuple[OnExperiment, ...] = ()
    standing: frozenset[str] = frozenset()

    def drawn(self, agent: str, message: bytes) -> list[OnExperiment]:
        """What the human message with this key (``BlockKey.hash``) of ``agent`` gets, if it fits."""
        return [one for one in self.experiments if one.agent == agent and is_served(one.candidate, message, one.share)]


class Experiments:
    """Asks ``learning.db`` every two seconds at most, off the event loop. What cannot be read is no experiment.

    Only the first to ask waits for the answer; the others see what was there before, until it has come.
    """

    def __init__(self, learning_db: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = learning_db
        self._clock = clock
        self._view: ExperimentView | None = None
        self._read_at = 0.0
        self._reading: asyncio.Task[None] | None = None

    async def view(self) -> ExperimentView:
        """What is on experiment now."""
        is_stale = self._view is None or self._clock() - self._read_at >= _FRESH_S
        if is_stale and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._refresh())
        if self._view is None and self._reading is not None:
            await asyncio.shield(self._reading)
        return self._view or ExperimentView()

    async def close(self) -> None:
        """Wait for what is being read."""
        if self._reading is not None:
            await self._reading

    async def _refresh(self) -> None:
        self._view = await asyncio.to_thread(self._read)
        self._read_at = self._clock()

    def _read(self) -> ExperimentView:
        try:
            with SkillReader.open(self._path) as reader:
                on_trial = reader.candidates(state="trial")
                adopted = reader.candidates(state="adopted")
        except JournalError as error:
            _log.warning("nothing is on experiment: %s", error)
            return ExperimentView()
        return ExperimentView(
            experiments=tuple(
                OnExperiment(
                    candidate=one.id,
                    agent=one.agent,
                    share=one.experiment.share,
                    skill=Skill(name=one.name, description=one.description, body=one.body),
                )
                for one in on_trial
                if one.experiment is not None
            ),
            standing=frozenset(TRIAL_ITEM + one.id for one in (*on_trial, *adopted)),
        )
