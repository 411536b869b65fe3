"""What the next update of an agent is made of, or why it waits.

Owns choosing from what was judged and reading it from the turn journal; refuses to know trainers. Invariant: what is
given up is given up by a rule with a name, and what cannot be trained on as a whole is chosen anew.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from metaclaw.config import UpdateSettings
from metaclaw.journal.learning import Clock, LearningJournal
from metaclaw.journal.turn_reader import TurnReader
from metaclaw.learner.advantages.strategy import num_informative
from metaclaw.learner.batches import Batch, Selection, select
from metaclaw.learner.candidates import Prepared
from metaclaw.learner.datums import TrainingTurn
from metaclaw.learner.exclusions import exclusion
from metaclaw.learner.lineage import Lineage
from metaclaw.learner.outcomes import Waiting

_log = logging.getLogger(__name__)


class Preparing:
    """Chooses for one update at a time. Its methods block."""

    def __init__(self, journal: LearningJournal, turns_db: Path, settings: UpdateSettings, clock: Clock) -> None:
        self._journal = journal
        self._turns_db = turns_db
        self._settings = settings
        self._clock = clock

    def prepare(self, agent: str, parent: int) -> Waiting | Prepared:
        """An update of ``agent`` that starts from ``parent``; nothing is claimed by it."""
        journal = self._journal
        lineage = Lineage.of(journal.versions(agent))
        selection = select(
            journal.pending(agent),
            parent=parent,
            lineage=lineage,
            baseline=journal.baseline(agent),
            now=self._clock(),
            limits=self._settings,
            split=journal.skill_split(agent),
        )
        self._expire(agent, selection)
        if selection.batch is None:
            return Waiting(reason=selection.waiting)
        with TurnReader.open(self._turns_db) as reader:
            turns, unusable = _recorded(selection.batch, reader)
        if unusable:
            # What was chosen cannot be trained as a whole: give those up and choose again at the next attempt.
            self._journal.expire(unusable, "not_recorded")
            _log.warning("%s: %d pending turns are not in the turn journal any more", agent, len(unusable))
            return Waiting(reason="turns that are no longer recorded were left out")
        return Prepared(
            number=journal.next_version(agent),
            batch=selection.batch,
            recorded=tuple(turns),
            updates=len(lineage.ancestors(parent)) - 1,  # going back to the base model warms up anew
            excluded=Counter(journal.expired(agent)),
        )

    def rewards_teach(self, prepared: Prepared) -> bool:
        """Whether anything can be learned from it without a teacher."""
        differences = list(prepared.batch.surprise.values())
        return "rewards" in self._settings.methods and num_informative(differences) > 0

    def leave_foreign(self, agent: str, prepared: Prepared, base_model: str) -> Waiting | None:
        """Give up what versions of another base model drew, if anything is: to this one its tokens mean nothing.

        What its own base model drew needs no such rule, as sampler and trainer are compared there.
        """
        made_of = {one.version: one.base_model for one in self._journal.versions(agent)}
        foreign = [
            sample.turn
            for sample in prepared.batch.samples
            if _bare(made_of.get(sample.version, base_model)) != _bare(base_model)
        ]
        if not foreign:
            return None
        number = self._journal.expire(foreign, "other_base_model")
        _log.warning(
            "%s: %d samples expired: they were drawn from another base model than %s", agent, number, base_model
        )
        return Waiting(reason="turns that another base model answered were left out")

    def leave_refused(self, agent: str, turns: Sequence[str], why: str) -> Waiting:
        """Give up what the trainer does not take."""
        number = self._journal.expire(turns, "refused_by_trainer")
        _log.warning("%s: %d samples expired: the trainer does not take them: %s", agent, number, why)
        return Waiting(reason="turns that the trainer does not take were left out")

    def leave_untaught(self, agent: str, prepared: Prepared) -> Waiting:
        """Give up what nothing can be learned from."""
        number = self._journal.expire(prepared.turns, "untaught")
        _log.info(
            "%s: %d samples expired: no teacher says anything of them, and their rewards teach nothing", agent, number
        )
        return Waiting(reason="turns that nothing can be learned from were left out")

    def _expire(self, agent: str, selection: Selection) -> None:
        for rule, turns in selection.expired.items():
            _log.info("%s: %d samples expired: %s", agent, self._journal.expire(turns, rule), rule)


def _bare(base_model: str) -> str:
    # A training server names a folder to clients on its machine, and what is last of it to others.
    return PurePath(base_model).name


def _recorded(batch: Batch, reader: TurnReader) -> tuple[list[TrainingTurn], Sequence[str]]:
    turns, unusable = list[TrainingTurn](), list[str]()
    for sample in batch.samples:
        recorded = reader.sample(sample.turn)
        if recorded is None or exclusion(recorded) is not None:
            unusable.append(sample.turn)
        else:
            turns.append(TrainingTurn(turn=sample.turn, sample=recorded, surprise=batch.surprise[sample.exchange]))
    return turns, unusable
