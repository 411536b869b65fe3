"""What agents said and were answered: every question of the journal about one agent is answered with its own.

All of them say the same in a session of the same name, and were answered the same.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaclaw.chat.exchanges import claim_exchange
from metaclaw.chat.messages import answer_identity, freeze
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.config import GateSettings
from metaclaw.errors import InvalidRequestError, NotFoundError
from metaclaw.gateway.conversations import Conversations
from metaclaw.gateway.feedback import FeedbackRequest
from metaclaw.gateway.policy_history import PolicyHistory
from metaclaw.journal.database import open_reader
from metaclaw.journal.drawn_answers import DrawnAnswersReader
from metaclaw.journal.export import export_turns
from metaclaw.journal.feedback import NewFeedback
from metaclaw.journal.holding import turns_that_held
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.past_turns import PastTurnReader
from metaclaw.journal.turns import BlockKey, NewTurn, RecallBlock, TurnEnd, TurnJournal, TurnReader
from metaclaw.learner.gate.questions import Questions
from tests.isolation.canaries import AGENTS, canary, whose_are_in
from tests.learner.recording import Said, policy_sample, record

MINE = AGENTS[:3]
SESSION = "s"
HELLO = {"role": "user", "content": "Good morning"}
ANSWER = {"role": "assistant", "content": "Good morning to you, whoever you are, on this fine day."}
KEY = BlockKey(b"k" * 32, 0)


def turn_of(agent: str, number: int) -> str:
    return f"turn-{number}-{canary(agent)}"


async def plant(path: Path) -> None:
    async with TurnJournal(path) as journal:
        for number in range(2):
            for place, agent in enumerate(MINE):
                drawn = policy_sample(
                    prompt=(place, number), tokens=(100 + place, number), logprobs=(0.0, 0.0), agent=agent
                )
                said = Said(
                    turn=turn_of(agent, number),
                    exchange=f"ex{number}:{canary(agent)}-{number}",
                    session=SESSION,
                    agent=agent,
                    answer=ANSWER["content"],
                    messages=(HELLO,) if number == 0 else (HELLO, ANSWER, HELLO),
                    sample=drawn,
                    opened_at=1.0 + number,
                    closed_at=2.0 + number,
                )
                await record(journal, said)
                block = RecallBlock(text=f"recalled {canary(agent)}")
                key = KEY if number == 0 else BlockKey(f"{place}".encode() * 32, 1)
                await journal.claim_blocks(agent, said.turn, [(key, block)], now=1.0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("turns") / "turns.db"
    asyncio.run(plant(path))
    return path


@pytest.fixture
def reader(path: Path) -> Iterator[TurnReader]:
    with TurnReader.open(path) as reader:
        yield reader


def exchange(reader: TurnReader, agent: str, number: int) -> Any:
    return reader.exchange(f"ex{number}:{canary(agent)}-{number}")


QUESTIONS: dict[str, Callable[[TurnReader, str], Any]] = {
    "turns": lambda reader, agent: [one.id for one in reader.turns(agent=agent)],
    "exchanges": lambda reader, agent: [one.id for one in reader.exchanges(agent=agent)],
    "export": lambda reader, agent: json.dumps(list(export_turns(reader, agent=agent, generation=lambda *_: 0))),
    "newest turn": lambda reader, agent: reader.newest_turn(agent, SESSION),
    "about the same": lambda reader, agent: [
        reader.about_the_same(agent, SESSION, "ex"),
        reader.about_the_same(agent, SESSION, f"ex0:{canary(agent)}-"),
    ],
    "recalled texts": lambda reader, agent: reader.recalled_texts(reader.turn(turn_of(agent, 1))),  # pyright: ignore
    "exchange before": lambda reader, agent: reader.exchange_before(exchange(reader, agent, 1)),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_recorded_of_an_agent_is_told_of_it_alone(reader: TurnReader, name: str) -> None:
    for agent in MINE:
        assert whose_are_in(QUESTIONS[name](reader, agent)) == {agent}


def test_no_turn_of_another_comes_later_in_a_session(reader: TurnReader) -> None:
    for agent in MINE:
        assert [exchange(reader, agent, number).has_later for number in (0, 1)] == [True, False]


def test_answers_that_were_drawn_are_looked_up_by_agent(path: Path) -> None:
    with closing(DrawnAnswersReader(path)) as drawn:
        for place, agent in enumerate(MINE):
            found = asyncio.run(drawn.drawn_answers(agent, SESSION))
            tokens = [np.frombuffer(base64.b64decode(one.tokens), "<i4")[0] for one in found]
            assert tokens == [100 + place] * 2


@pytest.mark.parametrize("is_kept", [True, False], ids=["from the journal", "in memory"])
def test_the_tokens_of_another_never_go_before_a_model(path: Path, is_kept: bool) -> None:
    class Nothing:
        async def drawn_answers(self, agent: str, session: str) -> list[Any]:
            return []

    async def tokens(agent: str) -> bytes:
        [_, answer] = await history.with_tokens([HELLO, ANSWER], agent, SESSION)
        return base64.b64decode(answer["token_ids"])[:4]

    with closing(DrawnAnswersReader(path)) as drawn:
        history = PolicyHistory(drawn if is_kept else Nothing())
        for place, agent in enumerate(MINE):
            if not is_kept:
                import_tokens = base64.b64encode(np.asarray([100 + place], "<i4").tobytes()).decode()
                policy_record = {"tokens": import_tokens, "renderer": "r"}
                history.remember(
                    agent,
                    SESSION,
                    ChatAnswer(message=ANSWER, finish_reason="stop", usage=None, policy_record=policy_record),
                )
        for place, agent in enumerate(MINE):
            assert np.frombuffer(asyncio.run(tokens(agent)), "<i4").tolist() == [100 + place]


def test_a_conversation_is_found_again_among_the_agents_own(path: Path) -> None:
    async def found(agent: str) -> list[Any]:
        past = PastTurnReader(path)
        try:
            return await past.that_asked([HELLO], agent=agent, prefix="", limit=99)
        finally:
            await past.aclose()

    for agent in MINE:
        assert [one.is_newest for one in asyncio.run(found(agent))] == [False], "its own, once, and gone on from"


def test_what_another_agent_went_on_with_is_the_newest_all_the_same(tmp_path: Path) -> None:
    async def newest() -> list[bool]:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            for agent in MINE:
                await record(journal, Said(turn=f"t-{agent}", exchange=agent, agent=agent, messages=(HELLO,)))
        past = PastTurnReader(tmp_path / "turns.db")
        try:
            found = [await past.that_asked([HELLO], agent=agent, prefix="", limit=9) for agent in MINE]
        finally:
            await past.aclose()
        return [one.is_newest for few in found for one in few]

    assert asyncio.run(newest()) == [True] * len(MINE)


def test_two_keys_and_two_agents_that_say_the_same_are_in_sessions_of_their_own() -> None:
    async def begin(talks: Conversations, *given: Any, **more: Any) -> str:
        begun = talks.begin(*given, **more)
        return begun if isinstance(begun, str) else await begun

    async def sessions() -> list[str]:
        talks = Conversations()
        begun = list[str]()
        for who, agent in (("one", "a"), ("one", "b"), ("two", "a"), ("two", "b")):
            turn = f"turn-{who}{agent}"
            begun.append(await begin(talks, turn, [HELLO], agent=agent, who=who))
            talks.end(turn, lambda: ChatAnswer(message=ANSWER, finish_reason="stop", usage=None))
        for number, (who, agent) in enumerate((("one", "a"), ("one", "b"), ("two", "a"), ("two", "b"))):
            begun.append(await begin(talks, f"turn-{number}", [HELLO, ANSWER, HELLO], agent=agent, who=who))
        return begun

    begun = asyncio.run(sessions())
    assert len(set(begun[:4])) == 4
    assert begun[4:] == begun[:4], "each goes on with what was its own"


def test_what_was_recalled_for_an_agent_is_attached_for_it_alone(path: Path, tmp_path: Path) -> None:
    async def blocks() -> None:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            for agent in MINE:
                turn = NewTurn(
                    id=turn_of(agent, 0), agent=agent, session=SESSION, exchange=canary(agent), kind="main",
                    dialect="openai.chat", model="m", upstream="u", request="{}", messages=(freeze(HELLO),),
                    opened_at=1.0,
                )  # fmt: skip
                await journal.open_turn(turn)
                await journal.close_turn(
                    turn.id, TurnEnd(state="done", closed_at=2.0, finish_reason="stop", status=200)
                )
                assert journal.remembered_blocks(agent, [KEY]) == [None]
                [block] = await journal.claim_blocks(agent, turn.id, [(KEY, RecallBlock(text=canary(agent)))], now=1.0)
                assert whose_are_in(block) == {agent}
            for agent in MINE:
                assert whose_are_in(journal.remembered_blocks(agent, [KEY])) == {agent}
        async with TurnJournal(tmp_path / "turns.db") as journal:
            for agent in MINE:
                assert whose_are_in(await journal.known_blocks(agent, [KEY])) == {agent}

    asyncio.run(blocks())


def test_feedback_that_speaks_of_another_agent_than_its_request_is_refused() -> None:
    said = FeedbackRequest(turn="t", thumbs="up", agent="other")
    with pytest.raises(InvalidRequestError, match="other"):
        said.given(only_agent="one", now=1.0)
    assert said.given(only_agent="other", now=1.0).agent == said.given(only_agent=None, now=1.0).agent == "other"


def test_feedback_is_about_turns_of_whoever_may_give_it(tmp_path: Path) -> None:
    def about(**more: Any) -> NewFeedback:
        fields: dict[str, Any] = {"turn": None, "session": None, "agent": "main", "only_agent": None}
        return NewFeedback(**{**fields, "score": 1.0, "text": "", "source": "user", "created_at": 1.0, **more})

    async def give() -> None:
        one, other = MINE[:2]
        async with TurnJournal(tmp_path / "turns.db") as journal:
            await record(journal, Said(turn="t", exchange="x", agent=one, session="of one"))
            assert (await journal.add_feedback(about(turn="t", only_agent=one))).agent == one
            assert (await journal.add_feedback(about(session="of one", agent=one))).agent == one
            for foreign in (
                {"turn": "t", "only_agent": other},
                {"session": "of one", "only_agent": other},
                {"session": "of one", "agent": other},
                {"session": "of one", "agent": one, "only_agent": other},
            ):
                with pytest.raises(NotFoundError):
                    await journal.add_feedback(about(**foreign))

    asyncio.run(give())


def test_a_session_is_pinned_to_a_version_of_its_agent(tmp_path: Path) -> None:
    async def pins() -> list[int]:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            for version, agent in enumerate(MINE):
                await journal.pin_session(agent, SESSION, version, now=1.0, idle_s=99.0)
            return [await journal.pin_session(agent, SESSION, 7, now=2.0, idle_s=99.0) for agent in MINE]

    assert asyncio.run(pins()) == [0, 1, 2]


def test_a_loop_goes_on_in_an_exchange_of_its_agent(tmp_path: Path) -> None:
    async def loops() -> list[str]:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            for agent in MINE:
                await record(journal, Said(turn=f"t-{agent}", exchange=f"ex-{agent}", agent=agent, answer="same"))
            for agent in MINE:
                turn = NewTurn(
                    id=f"u-{agent}", agent=agent, session="s", exchange="ex-new", kind="main", dialect="openai.chat",
                    model="m", upstream="u", request="{}", messages=(freeze(HELLO),), opened_at=1.0,
                    continues=answer_identity({"role": "assistant", "content": "same"}),
                )  # fmt: skip
                await journal.open_turn(turn)
        with TurnReader.open(tmp_path / "turns.db") as reader:
            return [one.exchange for one in reader.turns() if one.id.startswith("u-")]

    assert asyncio.run(loops()) == [f"ex-{agent}" for agent in MINE]
    claims = {claim_exchange(agent, "s", [HELLO], run="r").first_id("turn-1") for agent in MINE}
    assert len(claims) == len(MINE), "a run of the same name is another one"


def test_what_held_a_block_is_looked_for_among_the_agents_own(path: Path) -> None:
    connection = open_reader(path)
    try:
        for agent in MINE:
            assert whose_are_in(turns_that_held(connection, turn_of(agent, 1))) == {agent}
    finally:
        connection.close()


def test_an_agent_is_examined_with_what_it_was_asked(path: Path, tmp_path: Path) -> None:
    settings = GateSettings().model_copy(update={"held_out_share": 1.0})
    with LearningJournal.open(tmp_path / "learning.db") as journal:
        questions = Questions(path, journal, settings, clock=lambda: 10.0)
        for place, agent in enumerate(MINE):
            assert [one.prompt for one in questions.held_out(agent)] == [(place, 1), (place, 0)]
