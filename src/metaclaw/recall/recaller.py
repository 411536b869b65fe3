"""What goes before the model at this turn.

Owns choosing it once for each human message, and attaching it again ever after; refuses to know HTTP, and how things
are found and written. Invariant: what was attached to a message once is attached identically on every later request
that still holds the message, except what was withdrawn; so each request's prompt begins with the one before, and the
provider's prompt cache holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace
from typing import Protocol

from metaclaw.chat.humans import human_text
from metaclaw.chat.messages import JsonObject
from metaclaw.errors import JournalError
from metaclaw.fixed import fixed
from metaclaw.journal.recall_blocks import memories_of, without
from metaclaw.journal.turns import MEMORY_ITEM, BlockKey, RecallBlock, TurnJournal, Weighed
from metaclaw.recall.blocks import HumanMessage, human_messages
from metaclaw.recall.candidates import About, Candidate, MemorySource, SkillSource, SkillView
from metaclaw.recall.composing import BEGIN, END, NOTHING, Budget, Composed, compose
from metaclaw.recall.queries import queries
from metaclaw.recall.sizes import ESTIMATED, Measuring, Sizes

_BYTES_PER_TOKEN = 3


class Dropping(Protocol):
    """Which messages of a request are left out because it is too long with ``blocks``: their indexes."""

    def __call__(self, blocks: Mapping[int, str], /) -> Collection[int]: ...


@fixed
class Recalled:
    """Text to attach after messages, by their index, and what was recalled for the newest human message, by name.

    ``weighed`` is what was thought of at that, when this turn is the one that brought the message. ``trouble`` is why
    nothing new could be recalled: messages that are known have what they had.
    """

    blocks: Mapping[int, str] = field(default_factory=dict[int, str])
    names: tuple[str, ...] = ()
    weighed: tuple[Weighed, ...] = ()
    trouble: JournalError | None = None


class Recaller:
    """Recalls skills and memories for an agent's turns. A source that is ``None`` is switched off.

    Without ``measuring`` the budget is one of estimated tokens.
    """

    def __init__(
        self,
        journal: TurnJournal,
        *,
        skills: SkillSource | None,
        memories: MemorySource | None,
        budget: Budget,
        measuring: Measuring | None = None,
    ) -> None:
        self._journal = journal
        self._skills = skills
        self._memories = memories
        self._budget = budget
        self._measuring = measuring

    async def recall(
        self,
        messages: Sequence[JsonObject],
        *,
        about: About,
        turn_id: str,
        now: float,
        dropping: Dropping | None = None,
    ) -> Recalled:
        """What belongs to each human message. What ``dropping`` leaves out is not there: it may be recalled anew."""
        try:
            return await self._recall(messages, about, turn_id, now, dropping)
        except JournalError as error:
            return await self._remembered(messages, about, error)

    async def attached(self, messages: Sequence[JsonObject], *, about: About) -> Recalled:
        """What the messages of a conversation have already, for a request that nothing is recalled for."""
        humans = human_messages(messages, about.session)
        if not humans or not any(message.get("role") == "assistant" for message in messages):
            return Recalled()  # a title of a first message, say: it repeats no prompt
        try:
            known = await self._known(about.agent, [human.key for human in humans])
        except JournalError as error:
            return replace(await self._remembered(messages, about, error), names=())
        blocks = {human.key: block for human, block in zip(humans, known, strict=True) if block is not None}
        return replace(_recalled(humans, await self._served(blocks, await self._view(about.agent))), names=())

    async def _recall(
        self, messages: Sequence[JsonObject], about: About, turn_id: str, now: float, dropping: Dropping | None
    ) -> Recalled:
        humans = human_messages(messages, about.session)
        if not humans:
            return Recalled()
        skills = await self._view(about.agent)
        known = await self._known(about.agent, [human.key for human in humans])
        blocks = {human.key: block for human, block in zip(humans, known, strict=True) if block is not None}
        served = await self._served(blocks, skills)
        *earlier, newest = humans
        # An older message that was sent without a block must stay without one.
        proposals = [(human.key, RecallBlock(text="")) for human in earlier if human.key not in served]
        composed = NOTHING
        if newest.key not in served:
            staying = self._staying(humans, served, dropping)
            with self._journal.claiming():
                composed = await self._compose(messages, staying, served, skills, about, now)
            proposals.append((newest.key, composed.block))
        if proposals:
            claimed = await self._journal.claim_blocks(about.agent, turn_id, proposals, now=now)
            counting = {key: block for (key, _), block in zip(proposals, claimed, strict=True)}
            # What we composed ourselves was found a moment ago, so it is there.
            own = {key: block for key, block in proposals if counting[key].text == block.text}
            others = {key: block for key, block in counting.items() if key not in own}
            served |= own | await self._served(others, skills)
        is_ours = served[newest.key].items == composed.block.items
        return _recalled(humans, served, weighed=composed.weighed if is_ours else ())

    async def _remembered(self, messages: Sequence[JsonObject], about: About, trouble: JournalError) -> Recalled:
        """What the messages had before the journal could not be asked: the prompt and its cache stay what they are."""
        humans = human_messages(messages, about.session)
        remembered = self._journal.remembered_blocks(about.agent, [human.key for human in humans])
        known = {human.key: block for human, block in zip(humans, remembered, strict=True) if block is not None}
        return _recalled(humans, await self._served(known, await self._view(about.agent)), trouble=trouble)

    async def _view(self, agent: str) -> SkillView | None:
        return None if self._skills is None else await self._skills.view(agent)

    async def _known(self, agent: str, keys: Sequence[BlockKey]) -> list[RecallBlock | None]:
        # The newest message is nearly always new: the claim of its block finds out whether it is, in the same wait.
        remembered = self._journal.remembered_blocks(agent, keys)
        return remembered if None not in remembered[:-1] else await self._journal.known_blocks(agent, keys)

    async def _served(
        self, blocks: Mapping[BlockKey, RecallBlock], skills: SkillView | None
    ) -> dict[BlockKey, RecallBlock]:
        """The blocks without what was withdrawn since they were written."""
        memories = {memory for block in blocks.values() for memory in memories_of(block)}
        alive: frozenset[str] = frozenset()
        if memories and self._memories is not None:
            alive = await self._memories.served(memories)
        gone = {name for block in blocks.values() for name in block.items if not _is_served(name, skills, alive)}
        return {key: without(block, gone) for key, block in blocks.items()} if gone else dict(blocks)

    def _staying(
        self,
        humans: Sequence[HumanMessage],
        blocks: Mapping[BlockKey, RecallBlock],
        dropping: Dropping | None,
    ) -> Sequence[HumanMessage]:
        """The human messages that the model will see; the newest always."""
        if dropping is None:
            return humans
        texts = {human.index: blocks[human.key].text for human in humans if human.key in blocks}
        texts[humans[-1].index] = " " * (self._budget.max_tokens * _BYTES_PER_TOKEN)  # what is to come, at most
        dropped = dropping(texts)
        return [human for human in humans if human.index not in dropped]

    async def _compose(
        self,
        messages: Sequence[JsonObject],
        humans: Sequence[HumanMessage],
        blocks: Mapping[BlockKey, RecallBlock],
        skills: SkillView | None,
        about: About,
        now: float,
    ) -> Composed:
        found_skills: Sequence[Candidate] = ()
        found_memories: Sequence[Candidate] = ()
        for text in queries(messages, humans):
            found_skills = () if skills is None else await skills.found(text, humans[-1].key.hash)
            found_memories = () if self._memories is None else await self._memories.found(text, about, now)
            if any(one.is_fitting for one in (*found_skills, *found_memories)):
                break
        there = {human.key: blocks[human.key] for human in humans if human.key in blocks}
        present = {name for block in there.values() for name in block.items}
        present |= _told_here(found_memories, messages, humans, there)
        sizes = await self._sizes(about.agent, [*found_skills, *found_memories])
        return compose(found_skills, found_memories, present=present, budget=self._budget, sizes=sizes)

    async def _sizes(self, agent: str, found: Sequence[Candidate]) -> Sizes:
        sections = [one.section for one in found if one.is_fitting or one.is_standing]
        if self._measuring is None or not sections:
            return ESTIMATED
        return await self._measuring.sizes(agent, [BEGIN, END, *sections])


def _recalled(
    humans: Sequence[HumanMessage],
    served: Mapping[BlockKey, RecallBlock],
    *,
    weighed: tuple[Weighed, ...] = (),
    trouble: JournalError | None = None,
) -> Recalled:
    texts = {human.index: block.text for human in humans if (block := served.get(human.key)) and block.text}
    newest = served.get(humans[-1].key)
    return Recalled(blocks=texts, names=newest.items if newest else (), weighed=weighed, trouble=trouble)


def _is_served(name: str, skills: SkillView | None, alive: frozenset[str]) -> bool:
    if name.startswith(MEMORY_ITEM):
        return name.removeprefix(MEMORY_ITEM) in alive
    return skills is not None and skills.is_served(name)


def _told_here(
    memories: Sequence[Candidate],
    messages: Sequence[JsonObject],
    humans: Sequence[HumanMessage],
    blocks: Mapping[BlockKey, RecallBlock],
) -> set[str]:
    """What was learned from this very conversation and is still in it."""
    if not memories:
        return set()
    turns = {block.turn for block in blocks.values()}
    said = "\n".join(" ".join(human_text(messages[human.index]).split()) for human in humans)
    return {one.name for one in memories if one.turns & turns or (one.words and " ".join(one.words.split()) in said)}
