"""A conversation as clients drive it, while skills and memories come and go: each prompt begins with the one before.

The machine asks, answers with tools, retries, asks twice at once, edits, forks, compacts and truncates, as the real
programs do; and it restarts the gateway. What was before the model at a message is what must be before it ever after,
without what was withdrawn.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from metaclaw.chat.dialects import CHAT
from metaclaw.journal.turns import MEMORY_ITEM, BlockKey, TurnJournal
from metaclaw.recall.blocks import human_messages
from metaclaw.recall.candidates import About, Candidate
from metaclaw.recall.composing import BEGIN, END, Budget
from metaclaw.recall.forgetting import erase_forgotten
from metaclaw.recall.recaller import Recaller
from metaclaw.recall.sections import memory_section, skill_section

Message = dict[str, Any]
TOPICS = ("alpha", "beta", "gamma")
ASKED = st.sampled_from(TOPICS)
ABOUT = About(agent="main", session="s")
INTERNAL = {"role": "user", "content": "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>now<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"}


class World:
    """What can be recalled at the moment: skills by their name, memories by their id, each about one topic."""

    def __init__(self) -> None:
        self.skills: dict[str, str] = {}
        self.retired: dict[str, str] = {}
        self.memories: dict[str, str] = {}
        self.gone: set[str] = set()

    async def view(self, agent: str) -> World:
        return self

    def is_served(self, name: str) -> bool:
        return name in self.skills

    async def found(self, text: str, message: bytes) -> list[Candidate]:
        return [self.candidate("skill", name) for name, topic in sorted(self.skills.items()) if topic in text]

    def candidate(self, kind: str, item: str) -> Candidate:
        if kind == "skill":
            section = skill_section(item, "helps", f"body-of-{item}.")
            return Candidate(kind="skill", item=item, score=1.0, section=section)
        section = memory_section(f"words-of-{item}.", source="user", said_at=0.0, trust=1.0)
        return Candidate(kind="memory", item=item, score=1.0, section=section, words=f"words-of-{item}.")


class Memories:
    def __init__(self, world: World) -> None:
        self._world = world

    async def found(self, text: str, about: About, now: float) -> Sequence[Candidate]:
        await asyncio.sleep(0)
        held = sorted(self._world.memories.items())
        return [self._world.candidate("memory", item) for item, topic in held if topic in text]

    async def served(self, ids: Collection[str]) -> frozenset[str]:
        return frozenset(ids) & frozenset(self._world.memories)

    async def forgotten(self) -> frozenset[str]:
        return frozenset(self._world.gone)


class Conversation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.world = World()
        self.number = 0
        self.history: list[Message] = [{"role": "system", "content": "Be brief."}]
        self.older: list[list[Message]] = []
        self.attached: dict[BlockKey, tuple[str, ...]] = {}
        self._open()

    def teardown(self) -> None:
        self.runner.run(self._close())
        self.runner.close()
        shutil.rmtree(self.home)

    # What can be recalled

    @initialize(topics=st.lists(ASKED, min_size=1, max_size=4))
    def begin(self, topics: list[str]) -> None:
        for topic in topics:
            self.add_skill(topic)
            self.learn(topic)

    @rule(topic=ASKED)
    def add_skill(self, topic: str) -> None:
        self.world.skills[f"skill-{self._next()}"] = topic

    @rule(topic=ASKED)
    def learn(self, topic: str) -> None:
        self.world.memories[f"m-{self._next()}"] = topic

    @rule(data=st.data())
    @precondition(lambda self: self.world.skills)
    def retire(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.skills)))
        self.world.retired[name] = self.world.skills.pop(name)

    @rule()
    def take_all_back(self) -> None:
        self.world.skills |= self.world.retired
        self.world.retired = {}

    @rule(data=st.data())
    @precondition(lambda self: self.world.memories)
    def forget(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(sorted(self.world.memories)))
        del self.world.memories[item]
        self.world.gone.add(item)

    @rule()
    def erase(self) -> None:
        self.runner.run(erase_forgotten(self.journal, Memories(self.world)))
        assert self.world.gone.isdisjoint(self.runner.run(self.journal.recalled_memories()))

    @rule()
    def restart(self) -> None:
        self.runner.run(self._close())
        self._open()

    # What clients do

    @rule(topic=ASKED)
    def ask(self, topic: str) -> None:
        self._keep()
        self.history = [*self.history, {"role": "assistant", "content": f"answer {self._next()}"}, _user(topic)]
        self._send(self.history)

    @rule()
    @precondition(lambda self: len(self.history) > 1)
    def use_a_tool(self) -> None:
        calls = {"role": "assistant", "content": f"call {self._next()}"}
        self.history = [*self.history, calls, {"role": "tool", "content": "result"}]
        self._send(self.history)

    @rule()
    def retry(self) -> None:
        self._send(self.history)

    @rule(topics=st.lists(ASKED, min_size=2, max_size=3))
    def ask_at_once(self, topics: list[str]) -> None:
        said = {"role": "assistant", "content": f"answer {self._next()}"}
        branches = [[*self.history, said, _user(topic)] for topic in topics]
        self._send(*branches)
        self._keep()
        self.history = branches[0]

    @rule(topic=ASKED)
    @precondition(lambda self: len(self.history) > 1)
    def edit(self, topic: str) -> None:
        self._keep()
        humans = [index for index, message in enumerate(self.history) if message["role"] == "user"]
        if humans:
            self.history = [*self.history[: humans[-1]], _user(f"{topic}, edited {self._next()}")]
            self._send(self.history)

    @rule(data=st.data(), topic=ASKED)
    @precondition(lambda self: self.older)
    def fork(self, data: st.DataObject, topic: str) -> None:
        self._keep()
        self.history = data.draw(st.sampled_from(self.older))
        self.ask(topic)

    @rule(topic=ASKED)
    @precondition(lambda self: len(self.history) > 4)
    def compact(self, topic: str) -> None:
        self._keep()
        self.history = [self.history[0], _user(f"[summary {self._next()}]"), _said("go on"), _user(topic)]
        self._send(self.history)

    @rule(data=st.data())
    @precondition(lambda self: len(self.history) > 4)
    def truncate(self, data: st.DataObject) -> None:
        self._keep()
        kept = data.draw(st.integers(1, len(self.history) - 2))
        self.history = [self.history[0], *self.history[-kept:]]
        self._send(self.history)

    @invariant()
    def _the_client_s_history_is_its_own(self) -> None:
        assert all(BEGIN not in str(message["content"]) for message in self.history)

    # How a request goes

    def _send(self, *histories: list[Message]) -> None:
        # OpenClaw moves a message of its own to the end of every request.
        self.runner.run(self._send_all([[*history, INTERNAL] for history in histories]))

    async def _send_all(self, requests: list[list[Message]]) -> None:
        before = set(self.attached)
        sent = await asyncio.gather(*(self._recall(request) for request in requests))
        for request, blocks in zip(requests, sent, strict=True):
            humans = {human.index: human.key for human in human_messages(request, ABOUT.session)}
            assert set(blocks) <= set(humans)
            body = CHAT.edited(CHAT.parse({"messages": request}), blocks=blocks)["messages"]
            assert body[-1] == INTERNAL
            held: set[str] = set()
            for index, key in humans.items():
                text = blocks.get(index, "")
                if key not in self.attached:
                    self.attached[key] = self._items(text)
                expected = [name for name in self.attached[key] if self._is_there(name)]
                assert text == self._text(expected)
                if key not in before:
                    assert held.isdisjoint(expected), "recalled though it was there already"
                held.update(expected)

    async def _recall(self, request: list[Message]) -> dict[int, str]:
        recalled = await self.recaller.recall(request, about=ABOUT, turn_id=f"t{self._next()}", now=0.0)
        return dict(recalled.blocks)

    def _items(self, text: str) -> tuple[str, ...]:
        """What a block holds, in its order; only what may be recalled now."""
        named = {f"body-of-{name}.": name for name in self.world.skills}
        named |= {f"words-of-{item}.": MEMORY_ITEM + item for item in self.world.memories}
        places = sorted((text.index(words), name) for words, name in named.items() if words in text)
        return tuple(name for _, name in places)

    def _is_there(self, name: str) -> bool:
        return name in self.world.skills or name.removeprefix(MEMORY_ITEM) in self.world.memories

    def _text(self, names: Sequence[str]) -> str:
        sections = [
            self.world.candidate("memory" if name.startswith(MEMORY_ITEM) else "skill", name.removeprefix(MEMORY_ITEM))
            for name in names
        ]
        return BEGIN + "".join(one.section for one in sections) + END if sections else ""

    def _open(self) -> None:
        async def opened() -> TurnJournal:
            return await TurnJournal(self.home / "turns.db").__aenter__()

        self.journal = self.runner.run(opened())
        budget = Budget(max_tokens=400, max_skills=2, max_memories=2)
        self.recaller = Recaller(self.journal, skills=self.world, memories=Memories(self.world), budget=budget)

    async def _close(self) -> None:
        await self.journal.__aexit__(None, None, None)

    def _keep(self) -> None:
        self.older.append(self.history)

    def _next(self) -> int:
        self.number += 1
        return self.number


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _said(text: str) -> Message:
    return {"role": "assistant", "content": text}


Conversation.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestConversation = Conversation.TestCase
