"""Recorded exchanges that can be asked again, with a skill and without it.

Owns which ones can, and the two requests; refuses to know who answers and judges them. Invariant: the two differ in
what is recalled for the human's message and in nothing else, and neither holds the answer that was given then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.openai_chat import attach
from metaclaw.errors import InvalidRequestError
from metaclaw.journal.turns import RecallBlock, RecordedExchange, RecordedTurn, TurnReader
from metaclaw.learner.exchanges import whole_exchange
from metaclaw.learner.judges.judge import Exchange
from metaclaw.learner.skills.answerers import Answered
from metaclaw.learner.skills.retelling import retold, retold_settings
from metaclaw.recall.blocks import human_messages
from metaclaw.recall.candidates import Candidate as Found
from metaclaw.recall.composing import BEGIN, END, Budget, compose
from metaclaw.recall.sections import skill_section
from metaclaw.recall.sizes import ESTIMATED, Sizes
from metaclaw.skills.ranking import SkillRanking
from metaclaw.skills.skill import Skill


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Two requests to one agent, in chat form, and the exchange that their answers are judged in."""

    exchange: Exchange
    with_it: JsonObject
    without_it: JsonObject

    def answered(self, answer: Answered) -> Exchange:
        """The exchange as if this had been the answer.

        One that calls tools is judged as the next step that it is: the calls stand in its text and at the end of the
        messages, and nobody runs them.
        """
        text, messages = answer.text, self.exchange.messages
        if answer.calls:
            called = "\n".join(f"[calls {call}; nothing came back yet]" for call in answer.calls)
            text, messages = f"{text}\n\n{called}".strip(), (*messages, answer.message)
        changed = replace(self.exchange, answer=text, messages=messages, finish_reason=answer.finish_reason)
        return replace(changed, feedback=None, remark=None)  # that was said of another answer


class RecallWith:
    """What would be recalled with a candidate among the skills, and without it. Its two indexes are made once.

    ``sizes`` are those by which recall keeps its budget, for the model that answers.
    """

    def __init__(
        self, *, skills: Mapping[str, Skill], candidate: Skill, budget: Budget, sizes: Sizes = ESTIMATED
    ) -> None:
        self._candidate = candidate
        self._budget = budget
        self._sizes = sizes
        self._without = list(skills.values())
        self._with = list({**skills, candidate.name: candidate}.values())
        self._rankings: dict[bool, SkillRanking] = {}

    def fits(self, text: str) -> bool:
        """Whether the candidate would be recalled for ``text``."""
        return self._candidate.name in self._recalled(text, with_it=True).items

    def blocks(self, text: str, *, fits: bool) -> tuple[str, str]:
        """The two blocks. Where the candidate does not fit, it stands alone in its block: does it harm there?"""
        alone = f"{BEGIN}{_section(self._candidate)}{END}"
        with_it = self._recalled(text, with_it=True).text if fits else alone
        return with_it, self._recalled(text, with_it=False).text

    def _recalled(self, text: str, *, with_it: bool) -> RecallBlock:
        if with_it not in self._rankings:
            self._rankings[with_it] = SkillRanking(self._with if with_it else self._without)
        found = [
            Found(kind="skill", item=skill.name, score=1 / (1 + rank), section=_section(skill))
            for rank, skill in enumerate(self._rankings[with_it].best(text))
        ]
        return compose(found, (), present=(), budget=self._budget, sizes=self._sizes).block


def measured(skills: Iterable[Skill]) -> list[str]:
    """The texts of whose sizes ``RecallWith`` asks, of ``skills``."""
    return [BEGIN, END, *map(_section, skills)]


def why_not(recorded: RecordedExchange) -> str | None:
    """Why an exchange cannot be asked again; ``None`` when it can, as far as can be told without its messages."""
    last = _last(recorded)
    if recorded.is_open or last is None or not recorded.human.strip():
        return "it has no answer"
    try:
        retold_settings(last)
    except InvalidRequestError as error:
        return f"it cannot be asked again: {error}"
    return None


def replay_of(turns: TurnReader, recorded: RecordedExchange, recall: RecallWith, *, fits: bool) -> Replay | str:
    """The two requests, those of the exchange's last step; or why there are none.

    Where the agent called tools on the way, the calls and what came back are history in both.
    """
    last = _last(recorded)
    messages = turns.messages(last) if last else []
    humans = human_messages(messages, recorded.session)
    if last is None or not humans:
        return "no message of a human is in it"
    index, (with_it, without_it) = humans[-1].index, recall.blocks(recorded.human, fits=fits)

    def request(block: str) -> JsonObject:
        asked = [attach(one, block) if at == index and block else one for at, one in enumerate(messages)]
        return retold(last, asked)

    try:
        return Replay(
            exchange=whole_exchange(turns, recorded, with_followup=False),
            with_it=request(with_it),
            without_it=request(without_it),
        )
    except InvalidRequestError as error:
        return f"it cannot be asked again: {error}"[:300]


def _last(recorded: RecordedExchange) -> RecordedTurn | None:
    done = [turn for turn in recorded.turns if turn.state == "done" and turn.answer is not None]
    return done[-1] if done else None


def _section(skill: Skill) -> str:
    return skill_section(skill.name, skill.description, skill.body)
