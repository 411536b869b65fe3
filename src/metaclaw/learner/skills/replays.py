"""Recorded exchanges that can be asked again, with a skill and without it.

Owns which ones can, and the two requests; refuses to know who answers and judges them. Invariant: the two differ in
what is recalled for the human's message and in nothing else, and neither holds what came after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from metaclaw.chat.dialects import CHAT
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.openai_chat import attach
from metaclaw.journal.turns import RecallBlock, RecordedExchange, TurnReader
from metaclaw.learner.exchanges import whole_exchange
from metaclaw.learner.judges.judge import Exchange
from metaclaw.recall.blocks import human_messages
from metaclaw.recall.candidates import Candidate as Found
from metaclaw.recall.composing import BEGIN, END, Budget, compose
from metaclaw.recall.sections import skill_section
from metaclaw.skills.ranking import SkillRanking
from metaclaw.skills.skill import Skill

_SETTINGS = (
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "reasoning_effort", "response_format", "stop",
)  # fmt: skip
_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
_CALLING = ("tool_calls", "tool_use", "function_call")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Two requests to one agent, in chat form, and the exchange that their answers are judged in."""

    exchange: Exchange
    with_it: JsonObject
    without_it: JsonObject

    def answered(self, text: str, finish_reason: str | None) -> Exchange:
        """The exchange as if this had been the answer."""
        return replace(self.exchange, answer=text, finish_reason=finish_reason)


class RecallWith:
    """What would be recalled with a candidate among the skills, and without it. Its two indexes are made once."""

    def __init__(self, *, skills: Mapping[str, Skill], candidate: Skill, budget: Budget) -> None:
        self._candidate = candidate
        self._budget = budget
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
        return compose(found, (), present=(), budget=self._budget).block


def why_not(recorded: RecordedExchange) -> str | None:
    """Why an exchange cannot be asked again; ``None`` when it can."""
    first = recorded.turns[0]
    if recorded.is_open or first.state != "done" or not recorded.answer or not recorded.human.strip():
        return "it has no answer"
    if len(recorded.turns) > 1 or first.finish_reason in _CALLING:
        return "the agent called tools, whose results would be others now"
    if first.dialect != CHAT.name and any(first.request.get(key) for key in _TOOLS):
        return f"its tools are in the form of {first.dialect}"
    return None


def replay_of(turns: TurnReader, recorded: RecordedExchange, recall: RecallWith, *, fits: bool) -> Replay | None:
    """The two requests; ``None`` when the human's message is not the last one that counts."""
    first = recorded.turns[0]
    messages = turns.messages(first)
    humans = human_messages(messages, recorded.session)
    if not humans:
        return None
    kept = _SETTINGS + (_TOOLS if first.dialect == CHAT.name else ())
    settings = {key: first.request[key] for key in kept if first.request.get(key) is not None}
    with_it, without_it = recall.blocks(recorded.human, fits=fits)

    def request(block: str) -> JsonObject:
        index = humans[-1].index
        asked = [attach(one, block) if at == index and block else one for at, one in enumerate(messages)]
        return {"model": first.model, "messages": asked, **settings}

    return Replay(
        exchange=whole_exchange(turns, recorded, with_followup=False),
        with_it=request(with_it),
        without_it=request(without_it),
    )


def _section(skill: Skill) -> str:
    return skill_section(skill.name, skill.description, skill.body)
