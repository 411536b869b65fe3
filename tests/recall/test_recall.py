"""Recall never breaks the prompt prefix."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.chat.dialects import CHAT
from metaclaw.chat.openai_chat import attach
from metaclaw.chat.token_estimate import estimate_tokens
from metaclaw.journal.turns import TurnJournal
from metaclaw.recall.blocks import human_messages
from metaclaw.recall.candidates import About
from metaclaw.recall.composing import Budget
from metaclaw.recall.recaller import Dropping, Recaller
from metaclaw.recall.skills import LibrarySkills
from metaclaw.skills.library import SkillLibrary

Message = dict[str, Any]
BUDGET = Budget(max_skills=2, max_memories=3, max_tokens=1200)
TOPICS = ["alpha beta", "gamma delta", "alpha gamma", "epsilon zeta", "nothing here"]
INTERNAL = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>x<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"


class FakeClock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 2  # every look is a fresh one
        return self.now


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def user(content: Any) -> Message:
    return {"role": "user", "content": content}


def said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def write_skill(root: Path, name: str, description: str, body: str = "Do it.") -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / "SKILL.md").write_text(f"---\nname: {name}\ndescription: {description}\n---\n{body}\n")


@asynccontextmanager
async def recalling(home: Path, budget: Budget | None = None) -> AsyncGenerator[Recaller]:
    async with TurnJournal(home / "turns.db") as journal:
        skills = LibrarySkills(SkillLibrary(home / "skills", clock=FakeClock()))
        yield Recaller(journal, skills=skills, memories=None, budget=budget or BUDGET)


@dataclass(frozen=True)
class Sent:
    """What goes to the model, and what was recalled for it."""

    messages: list[Message]
    names: tuple[str, ...] = ()


async def recall(
    recaller: Recaller, messages: Sequence[Message], session: str = "s", dropping: Dropping | None = None
) -> Sent:
    about = About(agent="main", session=session)
    recalled = await recaller.recall(messages, about=about, turn_id="t", now=0.0, dropping=dropping)
    body = CHAT.edited(CHAT.parse({"messages": list(messages)}), blocks=recalled.blocks)
    return Sent(messages=body["messages"], names=recalled.names)


# A conversation as a client may drive it: it asks, retries, asks twice at once, edits, forks and loops over tools.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "tool", "retry", "parallel", "edit", "fork"]), st.sampled_from(TOPICS)
    ),
    min_size=2,
    max_size=7,
)


@given(STEPS)
@settings(max_examples=25, deadline=None)
def test_what_was_attached_stays_attached_byte_for_byte(steps: list[tuple[str, str]]) -> None:
    home = Path(tempfile.mkdtemp())
    try:
        asyncio.run(_converse(home, steps))
    finally:
        shutil.rmtree(home)


async def _converse(home: Path, steps: list[tuple[str, str]]) -> None:
    for name, description in (("one", "alpha beta"), ("two", "gamma delta"), ("three", "alpha gamma epsilon zeta")):
        write_skill(home / "skills", name, description)
    history: list[Message] = [{"role": "system", "content": "Be brief."}]
    seen: list[tuple[list[Message], list[Message]]] = []
    async with recalling(home) as recaller:
        for number, (step, topic) in enumerate(steps):
            humans = [index for index, message in enumerate(history) if message["role"] == "user"]
            if step == "edit" and humans:
                history = [*history[: humans[-1]], user(f"{topic} edited {number % 2}")]
            elif step == "fork" and len(humans) > 1:
                history = [*history[: humans[-1]], user(topic)]
            elif step == "tool" and humans:
                history = [*history, said(f"call {number}"), {"role": "tool", "content": "result"}]
            elif step != "retry" or not humans:
                history = [*history, said(f"answer {number}"), user(topic)]
            requests = [recall(recaller, history) for _ in range(2 if step == "parallel" else 1)]
            results = await asyncio.gather(*requests)
            assert all(result == results[0] for result in results)
            _agrees_with_all_before(seen, history, results[0].messages)
            seen.append((history, results[0].messages))


def _agrees_with_all_before(
    seen: list[tuple[list[Message], list[Message]]], history: list[Message], sent: list[Message]
) -> None:
    for old_history, old_sent in seen:
        shared = next((n for n, (a, b) in enumerate(zip(old_history, history, strict=False)) if a != b), None)
        shared = min(len(old_history), len(history)) if shared is None else shared
        assert old_sent[:shared] == sent[:shared]
    names = [line for message in sent for line in str(message["content"]).splitlines() if line.startswith("## Skill ")]
    assert len(names) == len(set(names)), "an item that is there already was recalled again"


@pytest.mark.anyio
async def test_an_item_that_is_there_is_not_recalled_again_until_it_is_gone(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "one", "alpha beta")
    talk = [user("alpha beta"), said("ok"), user("alpha beta again")]
    async with recalling(tmp_path) as recaller:
        assert (await recall(recaller, talk[:1])).names == ("one",)
        assert (await recall(recaller, talk)).names == ()
        compacted = [user("[summary]"), said("fine"), user("alpha beta once more")]
        assert (await recall(recaller, compacted)).names == ("one",)


@pytest.mark.anyio
async def test_an_item_on_a_message_that_is_left_out_for_want_of_room_is_not_there(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "one", "alpha beta")
    talk = [user("alpha beta"), said("ok"), user("alpha beta again"), said("ok"), user("alpha beta once more")]
    async with recalling(tmp_path) as recaller:
        assert (await recall(recaller, talk[:1])).names == ("one",)
        assert (await recall(recaller, talk[:3])).names == ()
        sent = await recall(recaller, talk, dropping=lambda _: {0, 1})
        assert sent.names == ("one",), "the model does not see the first message any more"
        assert await recall(recaller, talk, dropping=lambda _: {0, 1}) == sent


@pytest.mark.anyio
async def test_a_message_said_twice_has_two_blocks_of_its_own(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "one", "alpha beta")
    talk = [user("alpha beta"), said("ok"), user("alpha beta"), said("ok"), user("alpha beta")]
    keys = [human.key for human in human_messages(talk, "s")]
    assert len(set(keys)) == 3
    assert (keys[1].hash, keys[2].hash, keys[2].occurrence) == (keys[2].hash, keys[1].hash, 1)


@pytest.mark.anyio
async def test_a_removed_skill_is_gone_at_once_and_may_come_back(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "one", "alpha beta")
    talk = [user("alpha beta")]
    async with recalling(tmp_path) as recaller:
        with_skill = await recall(recaller, talk)
        (tmp_path / "skills" / "one" / "SKILL.md").rename(tmp_path / "kept")
        assert await recall(recaller, talk) == Sent(messages=talk)
        (tmp_path / "kept").rename(tmp_path / "skills" / "one" / "SKILL.md")
        assert await recall(recaller, talk) == with_skill


@pytest.mark.anyio
async def test_a_skill_that_changes_does_not_change_what_was_sent(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "one", "alpha beta", body="Old words.")
    async with recalling(tmp_path) as recaller:
        before = await recall(recaller, [user("alpha beta")])
    write_skill(tmp_path / "skills", "one", "alpha beta", body="New and longer words.")
    async with recalling(tmp_path) as recaller:
        assert await recall(recaller, [user("alpha beta")]) == before
        fresh = await recall(recaller, [user("alpha beta")], session="another")
    assert "New and longer words." in fresh.messages[0]["content"]


@pytest.mark.anyio
async def test_an_older_message_that_went_without_stays_without(tmp_path: Path) -> None:
    """A request that holds only the first message may come after one that holds more."""
    write_skill(tmp_path / "skills", "one", "alpha beta")
    talk = [user("alpha beta"), said("ok"), user("thank you")]
    async with recalling(tmp_path) as recaller:
        assert (await recall(recaller, talk)).messages == talk
        assert (await recall(recaller, talk[:1])).messages == talk[:1]


@pytest.mark.anyio
async def test_what_a_client_injects_neither_gets_a_block_nor_moves_one(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "one", "alpha beta")
    talk = [user("alpha beta"), user(INTERNAL)]
    loop = [talk[0], said("looking"), {"role": "tool", "content": "x"}, talk[1]]
    async with recalling(tmp_path) as recaller:
        first, second = await recall(recaller, talk), await recall(recaller, loop)
    assert first.messages[1] == talk[1]
    assert second.messages == [first.messages[0], *loop[1:]]
    assert first.names == second.names == ("one",)


@pytest.mark.anyio
@pytest.mark.parametrize("question", ["alpha beta {}", "{} alpha beta"])
async def test_of_a_long_text_the_beginning_and_the_end_decide(tmp_path: Path, question: str) -> None:
    write_skill(tmp_path / "skills", "one", "alpha beta")
    write_skill(tmp_path / "skills", "two", "gamma delta")
    text = question.format("filler " * 5000 + "gamma delta" + " filler" * 5000)
    async with recalling(tmp_path) as recaller:
        assert (await recall(recaller, [user(text)])).names == ("one",)


@pytest.mark.anyio
async def test_budget_and_number_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        write_skill(tmp_path / "skills", f"skill-{number}", "alpha beta", body="word " * (20 * (number + 1)))
    async with recalling(tmp_path, Budget(max_skills=3, max_memories=0, max_tokens=200)) as recaller:
        result = await recall(recaller, [user("alpha beta")])
        [block] = [message["content"].removeprefix("alpha beta\n\n") for message in result.messages]
        assert estimate_tokens(block) <= 200
        assert 1 <= len(result.names) <= 3
    async with recalling(tmp_path / "tiny", Budget(max_skills=3, max_memories=0, max_tokens=10)) as recaller:
        assert (await recall(recaller, [user("alpha beta")])).names == ()


@given(st.text() | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text()})), st.text(min_size=1))
def test_attaching_only_adds_after_what_the_client_sent(content: Any, text: str) -> None:
    message = {"role": "user", "content": content, "name": "x"}
    result = attach(message, text)
    assert {**result, "content": content} == message
    if isinstance(content, str):
        assert result["content"] == f"{content}\n\n{text}"
    else:
        assert result["content"] == [*content, {"type": "text", "text": text}]
