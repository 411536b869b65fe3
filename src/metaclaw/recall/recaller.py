"""What goes before the model at this turn.

Owns choosing it, within one budget, and attaching it again ever after; refuses to know HTTP. Invariant: what was
attached to a message once is attached identically on every later request that still holds the message, unless it
was withdrawn; so each request's prompt begins with the one before, and the provider's prompt cache holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metaclaw.chat.humans import human_text
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.token_estimate import estimate_tokens
from metaclaw.journal.turns import BlockKey, RecallBlock, TurnJournal
from metaclaw.recall.blocks import HumanMessage, human_messages
from metaclaw.skills.library import AgentSkills, SkillLibrary
from metaclaw.skills.skill import Skill

_BEGIN = "<recalled-skills>\nSkills that may help with the message above. Follow one where it fits.\n"
_END = "</recalled-skills>"
_QUERY_END = 4000  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """``max_tokens`` bounds one block, in estimated tokens."""

    top_k: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """Text to attach after messages, by their index, and what was recalled for the newest human message, by name."""

    blocks: Mapping[int, str] = field(default_factory=dict[int, str])
    names: tuple[str, ...] = ()


class Recaller:
    """Recalls skills for an agent's turns."""

    def __init__(self, journal: TurnJournal, library: SkillLibrary, budget: Budget) -> None:
        self._journal = journal
        self._library = library
        self._budget = budget

    async def recall(
        self, messages: Sequence[JsonObject], *, agent: str, session: str, turn_id: str, now: float
    ) -> Recalled:
        """What belongs to each human message. Raises ``JournalError`` when that cannot be recorded."""
        humans = human_messages(messages, session)
        if not humans:
            return Recalled()
        skills = await self._library.visible(agent)
        known = await self._journal.known_blocks(agent, [human.key for human in humans])
        blocks = {human.key: block for human, block in zip(humans, known, strict=True) if block is not None}
        proposals = self._propose(messages, humans, blocks, skills)
        if proposals:
            claimed = await self._journal.claim_blocks(agent, turn_id, proposals, now=now)
            blocks |= {key: block for (key, _), block in zip(proposals, claimed, strict=True)}
        return _recalled(humans, blocks, skills)

    def _propose(
        self,
        messages: Sequence[JsonObject],
        humans: Sequence[HumanMessage],
        blocks: Mapping[BlockKey, RecallBlock],
        skills: AgentSkills,
    ) -> list[tuple[BlockKey, RecallBlock]]:
        *earlier, newest = humans
        # An older message that was sent without a block must stay without one.
        proposals = [(human.key, RecallBlock(text="")) for human in earlier if human.key not in blocks]
        if newest.key not in blocks:
            present = {name for block in blocks.values() if _is_served(block, skills) for name in block.items}
            text = _query(human_text(messages[newest.index]))
            fitting = [skill for skill in skills.ranking.best(text) if skill.name not in present]
            proposals.append((newest.key, _block(fitting, self._budget)))
        return proposals


def _query(text: str) -> str:
    # Whoever pastes a long text says before or after it what to do; ranking a megabyte would hold up every other turn.
    return text if len(text) <= 2 * _QUERY_END else f"{text[:_QUERY_END]}\n{text[-_QUERY_END:]}"


def _block(fitting: Sequence[Skill], budget: Budget) -> RecallBlock:
    room = budget.max_tokens - estimate_tokens(_BEGIN + _END)
    chosen: list[Skill] = []
    for skill in fitting:
        num_tokens = estimate_tokens(_section(skill))
        if len(chosen) < budget.top_k and num_tokens <= room:
            chosen.append(skill)
            room -= num_tokens
    if not chosen:
        return RecallBlock(text="")
    sections = "".join(_section(skill) for skill in chosen)
    return RecallBlock(text=f"{_BEGIN}{sections}{_END}", items=tuple(skill.name for skill in chosen))


def _section(skill: Skill) -> str:
    return f"\n## {skill.name}: {skill.description}\n{skill.body}\n"


def _recalled(humans: Sequence[HumanMessage], blocks: Mapping[BlockKey, RecallBlock], skills: AgentSkills) -> Recalled:
    texts: dict[int, str] = {}
    names: tuple[str, ...] = ()
    for human in humans:
        block = blocks[human.key]
        names = block.items if block.text and _is_served(block, skills) else ()
        if names:
            texts[human.index] = block.text
    return Recalled(blocks=texts, names=names)


def _is_served(block: RecallBlock, skills: AgentSkills) -> bool:
    # A block with a withdrawn skill in it goes as a whole; what else it held may be recalled anew later on.
    return all(name in skills.by_name for name in block.items)
