"""Self-distillation: the policy itself, told what the user said next, is asked about what it had answered.

Owns which turns it is asked about, and what that took; refuses to know the words and the arithmetic. Invariant: the
teacher is the very version that the update starts from, so that it does not move while it teaches; only answers that
the user had something to say against are taught, and an update with such an answer keeps limits of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metaclaw.config import SelfDistillationSettings
from metaclaw.journal.turns import TurnReader
from metaclaw.learner.datums import TrainingTurn
from metaclaw.learner.distillation.endpoint import RefusedTokensError, Scored, ScoringEndpoint
from metaclaw.learner.distillation.hindsight import (
    Rendering,
    Requests,
    is_informative,
    numbers_of,
    requests_of,
    same_but_hinted,
)
from metaclaw.learner.distillation.lessons import Lesson
from metaclaw.learner.exchanges import followup
from metaclaw.learner.gate.steps import StepLimits
from metaclaw.learner.gathering import gathered

_log = logging.getLogger(__name__)

_AT_ONCE = 4
_SECTION = "rl.self_distillation"
_TEACHER = "itself, told what the user said next"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Corrected:
    """A turn whose exchange the user had something to say against."""

    turn: TrainingTurn
    requests: Requests | None


@dataclass(slots=True)
class _Told:
    """What ``weights`` said of the turns of one agent's update (``None``: nothing), and what that took."""

    weights: str | None
    turns: dict[str, Scored | None] = field(default_factory=dict[str, "Scored | None"])
    num_tokens: int = 0


class SelfDistillation:
    """Remembers what was said of an agent's update until another is asked about, as a failed attempt is made again."""

    def __init__(
        self,
        *,
        turns_db: Path,
        endpoint: ScoringEndpoint,
        rendering: Rendering,
        settings: SelfDistillationSettings,
        top_k: int,
    ) -> None:
        self._turns_db = turns_db
        self._endpoint = endpoint
        self._rendering = rendering
        self._settings = settings
        self._top_k = top_k
        self._told: dict[str, _Told] = {}

    async def lesson(self, agent: str, turns: Sequence[TrainingTurn], *, weights: str | None) -> Lesson:
        """What ``weights`` say of those of ``turns`` that were corrected. Raises ``TeacherError``."""
        corrected = await asyncio.to_thread(self._corrected, turns)
        before, names = self._told.get(agent), {one.turn.turn for one in corrected}
        told = _Told(weights=weights)
        if before is not None and before.weights == weights and before.turns.keys() <= names:
            told = before
        self._told[agent] = told
        waiting = [one for one in corrected if one.turn.turn not in told.turns]
        await gathered(_AT_ONCE, [lambda one=one: self._ask(one, told) for one in waiting])
        taught = {turn: scored for turn, scored in told.turns.items() if scored is not None}
        counts = Counter(
            taught_turns=len(taught), untaught_turns=len(told.turns) - len(taught), teacher_tokens=told.num_tokens
        )
        return Lesson(
            method="self_distillation",
            teacher=_TEACHER,
            weight=self._settings.weight,
            max_gap=self._settings.max_gap,
            taught={turn: scored.logprobs for turn, scored in taught.items()},
            likeliest={turn: one.likeliest for turn, one in taught.items() if one.likeliest is not None},
            limits=StepLimits(
                section=_SECTION,
                max_kl=self._settings.max_kl,
                max_entropy_change=self._settings.max_entropy_change,
            ),
            numbers=numbers_of(counts),
        )

    def _corrected(self, turns: Sequence[TrainingTurn]) -> list[_Corrected]:
        found, followups = list[_Corrected](), dict[str, str | None]()
        with TurnReader.open(self._turns_db) as reader:
            for turn in turns:
                recorded = reader.turn(turn.turn)
                if recorded is None:
                    continue
                if recorded.exchange not in followups:
                    exchange = reader.exchange(recorded.exchange)
                    followups[recorded.exchange] = followup(reader, exchange) if exchange else None
                said = followups[recorded.exchange]
                if said is not None and is_informative(said, was_bad=turn.surprise < 0):
                    requests = requests_of(recorded, reader.messages(recorded), said)
                    found.append(_Corrected(turn=turn, requests=requests))
        return found

    async def _ask(self, one: _Corrected, told: _Told) -> None:
        try:
            told.turns[one.turn.turn] = await self._scored(one, told)
        except RefusedTokensError as error:
            _log.info("turn %s stays untaught: %s", one.turn.turn, error)
            told.turns[one.turn.turn] = None

    async def _scored(self, one: _Corrected, told: _Told) -> Scored | None:
        if one.requests is None:
            return None
        model = told.weights or await self._endpoint.base_name()
        plain = await self._rendering.prompt(model, one.requests.plain)
        hinted = await self._rendering.prompt(model, one.requests.hinted)
        told.num_tokens += len(plain) + len(hinted) + 2
        tokens, num_prompt = one.turn.all_tokens, one.turn.num_prompt_tokens
        prompt = same_but_hinted(tokens[:num_prompt], plain, hinted)
        if prompt is None:
            _log.info("turn %s stays untaught: its prompt is not rendered now as it was then", one.turn.turn)
            return None
        scored = await self._endpoint.score(
            told.weights, [*prompt, *tokens[num_prompt:]], first=len(prompt), top=self._top_k
        )
        told.num_tokens += scored.took.total
        return scored
