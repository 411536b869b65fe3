"""Playing the days.

Owns the order of things in a day: a change of the folder, a question with what was said to the last answer, the work,
its grade and its reward; refuses to know files of results and what lies between days. Invariants: an answer is graded
before anything is said of it, so that a score is of an agent who had not heard the solution; a check that passes before
any work is known as such.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from metaclaw.bench.days import ChoiceRound, Dataset, Day, FileRound
from metaclaw.bench.grading import Grade, choice_score, graded_check, graded_choice
from metaclaw.bench.results import Played, PlayedDay
from metaclaw.bench.user import question, remark_on, system_prompt, with_remark
from metaclaw.bench.workplace import Workplace, workplace
from metaclaw.processes.sandbox import Sandbox
from metaclaw.rollout.gateway_client import Answer
from metaclaw.rollout.speaking import Said, Speaker
from metaclaw.rollout.tools import Tools

Json = dict[str, Any]


class Model(Protocol):
    """The slice of ``GatewayClient`` that is used."""

    async def ask(
        self, messages: Sequence[Json], tools: Sequence[Json], *, session: str, agent: str | None, is_last: bool = False
    ) -> Answer: ...

    async def give_feedback(self, turn: str, score: float) -> None: ...


@dataclass(slots=True, kw_only=True)
class _Tally:
    turns: int = 0
    tool_calls: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """Plays days as ``agent``. When ``is_frozen`` nothing is said of the answers and no reward is given.

    ``max_turns`` are the model's answers to one round.
    """

    model: Model
    sandbox: Sandbox
    dataset: Dataset
    agent: str
    max_turns: int
    is_frozen: bool

    async def play(self, day: Day, *, session: str) -> PlayedDay:
        """All rounds of a day. Raises ``GatewayError``, ``SandboxError`` and ``ConfigError``: then it is not played."""
        async with workplace(self.dataset, day, self.sandbox) as place:
            tools = Tools(("shell", "files"), self.sandbox, place.folder)
            messages = [Json(role="system", content=system_prompt(place.folder)), *day.said]
            speaker = Speaker(model=self.model, tools=tools, session=session, agent=self.agent)
            running = _Day(player=self, day=day, place=place, speaker=speaker, messages=messages)
            rounds = [await running.round(one) for one in day.rounds]
            return PlayedDay(day=day.id, session=session, rounds=tuple(rounds))


@dataclass(slots=True, kw_only=True)
class _Day:
    player: Player
    day: Day
    place: Workplace
    speaker: Speaker
    messages: list[Json]
    remark: str = ""

    async def round(self, asked: FileRound | ChoiceRound) -> Played:
        began = time.monotonic()
        await self.place.update(asked.update, self.day.sources)
        before = await self._checked(asked) if isinstance(asked, FileRound) else None
        self.messages.append({"role": "user", "content": with_remark(self.remark, question(asked))})
        said, tally = Said(), _Tally()
        is_whole = await self.speaker.exchange(self.messages, said, tally, max_turns=self.player.max_turns)
        grade = await self._checked(asked) if isinstance(asked, FileRound) else graded_choice(said.answer, asked.eval)
        is_idle = before is not None and before.is_right
        await self._tell(asked, grade, said, is_idle=is_idle)
        by_all = 0.0 if isinstance(asked, FileRound) else choice_score(frozenset(asked.eval.options), asked.eval)
        return Played(
            round=asked.id, type=asked.type, score=grade.score, said=grade.said, answer=said.answer, turn=said.turn,
            by_choosing_all=by_all, is_idle=is_idle, is_cut=not is_whole, turns=tally.turns,
            tool_calls=tally.tool_calls, tokens=tally.tokens, seconds=round(time.monotonic() - began, 3),
        )  # fmt: skip

    async def _checked(self, asked: FileRound) -> Grade:
        return graded_check(await self.place.check(asked.eval), asked.eval)

    async def _tell(self, asked: FileRound | ChoiceRound, grade: Grade, said: Said, *, is_idle: bool) -> None:
        """The reward of the answer now, and in words with the next question; after the last one by itself."""
        if self.player.is_frozen:
            return
        if grade.score is not None and said.turn and not is_idle:
            await self.player.model.give_feedback(said.turn, 2 * grade.score - 1)
        self.remark = remark_on(asked, grade)
        if asked is self.day.rounds[-1] and self.remark:
            self.messages.append({"role": "user", "content": self.remark})
            session, agent = self.speaker.session, self.speaker.agent
            await self.player.model.ask(self.messages, (), session=session, agent=agent, is_last=True)
