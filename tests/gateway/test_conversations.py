"""Sessions by what was said: nobody is mixed with anybody, and a conversation stays one."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.errors import JournalError
from metaclaw.gateway import conversations, open_turns
from metaclaw.gateway.access import Admission
from metaclaw.gateway.conversations import Conversations
from metaclaw.gateway.open_turns import OpenTurns
from metaclaw.journal.past_turns import PastTurn

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
LONG = "This answer is long enough to be nobody else's, as it goes on about the matter at hand: "


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def said(text: str) -> Json:
    return {"role": "assistant", "content": text}


SYSTEM: Json = {"role": "system", "content": "Be brief."}
CALL: Json = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "ls", "arguments": "{}"}}],
}
RESULT: Json = {"role": "tool", "tool_call_id": "c", "content": "a.txt"}


@dataclass(slots=True)
class Turn:
    person: str
    session: str
    agent: str
    messages: list[Json]
    answer: Json | None = None
    others: tuple[Json, ...] = ()
    is_whole: bool = True


@dataclass(slots=True)
class Gateway:
    """Conversations, and a journal that remembers what was answered."""

    turns: list[Turn] = field(default_factory=list[Turn])
    is_broken: bool = False
    num_asked: int = 0
    conversations: Conversations = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.conversations = Conversations(self)

    async def that_asked(self, messages: Sequence[Json], *, agent: str, prefix: str, limit: int) -> list[PastTurn]:
        self.num_asked += 1
        if self.is_broken:
            raise JournalError("cannot read")
        newest = {turn.session: turn for turn in self.turns}
        found = [
            PastTurn(
                session=turn.session, answers=(turn.answer, *turn.others), is_newest=newest[turn.session] is turn,
                is_cut=not turn.is_whole,
            )
            for turn in reversed(self.turns)
            if turn.answer is not None and turn.messages == list(messages) and turn.agent == agent
            and turn.session.startswith(prefix)
        ]  # fmt: skip
        return found[:limit]

    async def begin(self, *messages: Json, person: str = "anna", who: str = "owner", agent: str = "main") -> Turn:
        number = len(self.turns)
        turn = Turn(person, "", agent, list(messages))
        self.turns.append(turn)
        found = self.conversations.begin(f"turn-{number:06}", messages, agent=agent, who=who)
        turn.session = found if isinstance(found, str) else await found
        return turn

    def end(self, turn: Turn, answer: Json | None, *others: Json, is_whole: bool = True) -> None:
        turn.answer, turn.others, turn.is_whole = answer, others, is_whole

        def read() -> ChatAnswer:
            further = tuple({"message": other} for other in others)
            return ChatAnswer(message=answer, finish_reason="stop" if is_whole else None, usage=None, others=further)

        self.conversations.end(f"turn-{self.turns.index(turn):06}", None if answer is None else read, num_bytes=100)

    async def ask(self, *messages: Json, answer: Json | None, **names: str) -> str:
        turn = await self.begin(*messages, **names)
        self.end(turn, answer)
        return turn.session


async def test_a_conversation_that_grows_is_one_session_through_tools_and_a_changing_system_prompt() -> None:
    gateway = Gateway()
    first = await gateway.ask(SYSTEM, user("list"), answer=CALL)
    rewritten = {**CALL, "tool_calls": [{**CALL["tool_calls"][0], "id": "other"}]}
    loop = (user("list"), rewritten, RESULT)
    assert await gateway.ask({**SYSTEM, "content": "It is 9:01."}, *loop, answer=said("a.txt")) == first
    assert await gateway.ask(*loop, said(" a.txt\n"), user("thanks"), answer=said("!")) == first
    assert gateway.num_asked == 0


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_whichever_of_several_answers_a_person_takes_it_was_given(is_restarted: bool) -> None:
    gateway = Gateway()
    turn = await gateway.begin(user("pick"))
    gateway.end(turn, said("one"), said("two"), said(LONG))
    if is_restarted:
        gateway.restart()
    assert await gateway.ask(user("pick"), said("two"), user("on"), answer=said("!")) == turn.session
    assert await gateway.ask(user("pick"), said("none of them"), user("on"), answer=said("!")) != turn.session
    assert await gateway.ask(user("pick"), said(LONG), user("on"), answer=said("!")) == turn.session


async def test_an_answer_that_the_client_began_is_the_models_and_its_session_goes_on() -> None:
    """Who wants JSON of Claude writes its first character for it, each time."""
    gateway = Gateway()
    begun = said("{")
    first = await gateway.ask(user("count"), begun, answer=said(' "n": 1}'))
    told = (user("count"), said('{ "n": 1}'), user("again"))
    assert await gateway.ask(*told, begun, answer=said('{ "n": 2}')) == first, "and this model repeats it"
    assert await gateway.ask(*told, said('{ "n": 2}'), user("more"), begun, answer=None) == first
    assert await gateway.ask(user("count"), begun, answer=said(' "n": 1}')) != first, "somebody else's"


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_who_stops_an_answer_may_have_read_less_of_it_than_was_sent(is_restarted: bool) -> None:
    gateway = Gateway()
    turn = await gateway.begin(user("tell"))
    gateway.end(turn, said(LONG + "one, two, three"), is_whole=False)
    whole = await gateway.ask(user("tell"), answer=said(LONG + "four"))
    if is_restarted:
        gateway.restart()
    assert await gateway.ask(user("tell"), said(LONG + "one, tw"), user("and then?"), answer=None) == turn.session
    assert await gateway.ask(user("tell"), said(LONG + "fo"), user("and then?"), answer=None) not in (
        turn.session,
        whole,
    )
    assert await gateway.ask(user("tell"), said(LONG[:9]), user("and then?"), answer=None) != turn.session, (
        "a few words"
    )
    few = [user(f"tell {LONG}"), said("one"), user("and then?")]
    stopped = await gateway.begin(few[0])
    gateway.end(stopped, said("one, two, three"), is_whole=False)
    assert await gateway.ask(*few, answer=None) != stopped.session, "anybody may ask this, and hear that first"


async def test_who_was_given_the_whole_answer_is_not_taken_for_who_stopped_a_longer_one() -> None:
    gateway = Gateway()
    bens = await gateway.ask(user("tell"), answer=said(LONG), person="ben")
    stopped = await gateway.begin(user("tell"))
    gateway.end(stopped, said(LONG + "one, two, three"), is_whole=False)
    assert await gateway.ask(user("tell"), said(LONG), user("thanks"), answer=None, person="ben") == bens
    assert await gateway.ask(user("tell"), said(LONG + "one"), user("on"), answer=None) == stopped.session


async def test_aider_which_moves_its_files_and_repeats_its_rules_has_one_session() -> None:
    """It has the model say so to the files, to what became of an edit, and behind each message there are its rules."""
    rules = "\n\nTo suggest changes to a file you MUST return the entire content of the updated file.\nYou MUST"
    files = [
        user("I have *added these files to the chat* so you can go ahead and edit them.\n\na.py"),
        said("Ok, any changes I propose will be to those files."),
    ]
    edit = [user("I committed the changes with git hash 1a2b & commit msg: feat: add"), said("Ok.")]
    gateway = Gateway()
    done: list[Json] = []
    sessions: set[str] = set()
    for number, word in enumerate(("add a test", "rename it", "thanks")):
        answer = said(f"{LONG} {number}")
        sessions.add(await gateway.ask(SYSTEM, *done, *files, user(word + rules), answer=answer))
        done += [user(word), answer, *edit]
    assert len(sessions) == 1
    assert await gateway.ask(SYSTEM, *files, user("add a test" + rules), answer=None) not in sessions


async def test_a_long_answer_that_was_cut_goes_on_in_its_session() -> None:
    gateway = Gateway()
    first = await gateway.ask(user("tell"), answer=said(LONG))
    assert await gateway.ask(user("tell"), said(LONG), answer=said("more")) == first
    assert await gateway.ask(user("tell"), said(LONG + "more"), user("thanks"), answer=said("!")) == first


async def test_two_who_begin_with_the_same_words_are_two_from_the_beginning() -> None:
    """PITFALLS P8, and what our own first release did."""
    gateway = Gateway()
    anna = await gateway.ask(SYSTEM, user("hello"), answer=said("Hi Anna"))
    bert = await gateway.ask(SYSTEM, user("hello"), answer=said("Hi Bert"))
    assert anna != bert
    assert await gateway.ask(SYSTEM, user("hello"), said("Hi Bert"), user("more"), answer=said("b")) == bert
    assert await gateway.ask(SYSTEM, user("hello"), said("Hi Anna"), user("more"), answer=said("a")) == anna


async def test_two_who_are_told_the_same_go_their_ways_when_they_say_something_else() -> None:
    gateway = Gateway()
    first = [await gateway.ask(user("hello"), answer=said("Hi")) for _ in range(2)]
    told = (user("hello"), said("Hi"))
    of_cats = await gateway.ask(*told, user("cats"), answer=said("They sleep."))
    of_dogs = await gateway.ask(*told, user("dogs"), answer=said("They bark."))
    assert {of_cats, of_dogs} == set(first)
    edited = await gateway.ask(*told, user("birds"), answer=said("They sing."))
    assert edited not in first, "whose it is nobody can know"
    assert await gateway.ask(*told, user("cats"), said("They sleep."), user("more"), answer=said("x")) == of_cats


async def test_two_at_the_same_moment_are_two_and_one_who_tries_again_is_one() -> None:
    gateway = Gateway()
    anna, bert = await gateway.begin(user("hello")), await gateway.begin(user("hello"))
    assert anna.session != bert.session
    gateway.end(anna, None)
    assert await gateway.ask(user("hello"), answer=said("Hi")) == anna.session
    assert await gateway.ask(user("hello"), answer=said("Hi")) not in (anna.session, bert.session)


async def test_where_nothing_came_of_a_question_only_the_same_question_goes_on() -> None:
    gateway = Gateway()
    for _ in range(2):
        await gateway.ask(user("hello"), answer=said("Hi"))
    told = (user("hello"), said("Hi"))
    failed = await gateway.ask(*told, user("cats"), answer=None)
    assert await gateway.ask(*told, user("dogs"), answer=said("They bark.")) != failed
    assert await gateway.ask(*told, user("cats"), answer=said("They sleep.")) == failed


async def test_a_turn_that_is_sent_again_or_edited_stays_in_its_session() -> None:
    gateway = Gateway()
    told = (user("hello"), said(LONG))
    session = await gateway.ask(told[0], answer=told[1])
    for answer in (None, said("one"), said("two")):
        assert await gateway.ask(*told, user("count"), answer=answer) == session
    assert await gateway.ask(*told, user("count"), said("one"), user("go on"), answer=said("2")) == session
    assert await gateway.ask(*told, user("count backwards"), answer=said("9")) == session
    gateway.restart()
    assert await gateway.ask(*told, user("count upwards"), answer=said("1")) == session


async def test_going_back_to_a_few_words_that_anybody_may_have_heard_is_a_session_of_its_own() -> None:
    gateway = Gateway()
    session = await gateway.ask(user("hello"), answer=said("Hi"))
    assert await gateway.ask(user("hello"), said("Hi"), user("cats"), answer=said("x")) == session
    assert await gateway.ask(user("hello"), said("Hi"), user("dogs"), answer=said("y")) != session


async def test_tokens_and_agents_have_sessions_of_their_own() -> None:
    gateway = Gateway()
    first = await gateway.ask(user("hello"), answer=said("Hi"), who="anna")
    more = (user("hello"), said("Hi"), user("more"))
    others = [
        await gateway.ask(*more, answer=said("x"), who="bert"),
        await gateway.ask(*more, answer=said("x"), who="anna", agent="ops"),
    ]
    assert first not in others
    assert await gateway.ask(*more, answer=said("x"), who="anna") == first


async def test_a_window_that_moves_or_forgets_its_tools_is_known_by_its_end() -> None:
    gateway = Gateway()
    history = [user("list the files, please"), CALL, RESULT]
    session = await gateway.ask(history[0], answer=CALL)
    answer = said(f"{LONG} 0")
    assert await gateway.ask(*history, answer=answer) == session
    history = [history[0], answer]
    for number in range(1, 6):
        history.append(user(f"and number {number}?"))
        assert await gateway.ask(*history[-5:], answer=said(f"{LONG} {number}")) == session
        history.append(said(f"{LONG} {number}"))


async def test_a_short_end_of_a_history_is_nobodys_own() -> None:
    gateway = Gateway()
    go_on = (user("go on"), said("OK"))
    session = await gateway.ask(user("one"), *go_on, *go_on, user("go on"), answer=said("OK"))
    assert await gateway.ask(*go_on, *go_on, user("and now?"), answer=said("x")) != session


@pytest.mark.parametrize("is_broken", [False, True])
async def test_after_a_restart_the_journal_knows_and_when_it_cannot_be_read_there_is_a_session_more(
    is_broken: bool,
) -> None:
    gateway = Gateway()
    anna = await gateway.ask(user("hello"), answer=said("Hi"))
    bert = await gateway.ask(user("hello"), answer=said("Hi"))
    gateway.restart()
    gateway.is_broken = is_broken
    told = (user("hello"), said("Hi"))
    at_once = [gateway.ask(*told, user(word), answer=said(word)) for word in ("cats", "dogs")]
    sessions = await asyncio.gather(*at_once)
    assert (set(sessions) == {anna, bert}) is not is_broken
    assert len(set(sessions)) == 2


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """PITFALLS P9: what was kept for each session was never let go."""
    monkeypatch.setattr(conversations, "MAX_TURNS", 50)
    monkeypatch.setattr(conversations, "MAX_BYTES", 1000)
    gateway = Gateway()
    for number in range(200):
        await gateway.ask(user(f"hello {number % 100}"), answer=said("Hi"))
    kept = gateway.conversations
    sizes = [len(kept._turns), len(kept._newest), sum(map(len, kept._by_request.values()))]  # pyright: ignore
    assert sizes == [10, 10, 10]
    assert sum(map(len, kept._by_window.values())) == 10  # pyright: ignore
    assert kept._num_bytes == 1000  # pyright: ignore
    oldest = gateway.turns[0].session
    assert await gateway.ask(user("hello 0"), said("Hi"), user("x"), answer=said("y")) in (
        oldest, gateway.turns[100].session,
    )  # fmt: skip


def sizes(kept: object) -> dict[str, int]:
    """How much is in each of its containers."""
    return {name: len(value) for name, value in vars(kept).items() if isinstance(value, Sized)}


def begun(kept: Conversations, number: int, text: str) -> str:
    turn = f"turn-{number:06}"
    assert isinstance(kept.begin(turn, [user(text)], agent="main", who="owner"), str)
    return turn


@pytest.mark.parametrize("says", ["hello", "hello {number}"], ids=["all the same", "each another"])
def test_nothing_that_is_kept_of_turns_grows_for_ever(monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    """PITFALLS P9. Whatever containers there are, and however small what is in them."""
    for name, bound in (("MAX_TURNS", 50), ("MAX_ALIKE", 20)):
        monkeypatch.setattr(conversations, name, bound)
    kept = Conversations()
    for number in range(200):
        turn = begun(kept, number, says.format(number=number))
        kept.end(turn, None if number % 2 else lambda: None, response_id=f"resp_{number}")
    assert {name: size for name, size in sizes(kept).items() if size > 50} == {}
    assert len(kept._turns) == (20 if says == "hello" else 50)  # pyright: ignore


def test_turns_whose_record_is_late_are_given_up_after_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """PITFALLS P9. On a full disk none is ever charged."""
    monkeypatch.setattr(open_turns, "_MAX_UNCHARGED", 20)
    kept = Conversations()
    turns = OpenTurns(kept)
    for number in range(100):
        turn = begun(kept, number, f"hello {number}")
        turns.begin(turn, Admission(lambda: None, lambda _tokens, _usd: None))
        turns.end(turn, None)
    assert {name: size for name, size in sizes(turns).items() if size > 20} == {}


def test_answers_that_were_translated_are_held_to_the_same_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last 4096 were kept, however long, and those of the policy with all tokens of their prompts."""
    monkeypatch.setattr(conversations, "MAX_BYTES", 1000)
    kept = Conversations()
    turns = OpenTurns(kept)
    records = list[weakref.ref[_Record]]()
    for number in range(100):
        turn, message, record = f"turn-{number:06}", said("x" * 100), _Record()
        records.append(weakref.ref(record))
        assert isinstance(kept.begin(turn, [user(f"hello {number}")], agent="main", who="owner"), str)
        turns.begin(turn, Admission(lambda: None, lambda _tokens, _usd: None))
        turns.end(turn, ChatAnswer(message=message, finish_reason="stop", usage=None, policy_record=record))
        del record
    assert len(kept._turns) == 10  # pyright: ignore
    assert [record() for record in records] == [None] * 100


class _Record(dict[str, Any]):
    """A policy record that can be watched."""


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),  # who
        st.sampled_from(["begin", "go on", "go on", "retry", "edit", "regenerate", "cut", "restart", "shorten"]),
        st.sampled_from("ab"),  # what they say
        st.sampled_from(["x", "y", None]),  # what they are told
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
async def test_whatever_people_do_none_is_mixed_with_another(steps: list[tuple[int, str, str, str | None]]) -> None:
    """Few words and few answers, so that everybody says and is told the same most of the time."""
    gateway = Gateway()
    histories: dict[int, list[Json]] = {}
    for person, what, word, answer in steps:
        history = _next_request(histories.get(person, []), what, word)
        if what == "restart":
            gateway.restart()
        told = None if answer is None else said(answer)
        if what == "cut":
            await gateway.begin(*history, person=str(person))  # and it never ends
        else:
            await gateway.ask(*history, answer=told, person=str(person))
        histories[person] = history if told is None or what == "cut" else [*history, told]
    for turn in gateway.turns:
        for other in gateway.turns:
            if turn.session == other.session and turn.person != other.person:
                assert _was_said_by(other.person, turn, gateway) or _was_said_by(turn.person, other, gateway)


@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
async def test_who_is_told_what_nobody_else_is_has_one_session_a_conversation(
    steps: list[tuple[int, str, str, str | None]],
) -> None:
    gateway = Gateway()
    histories: dict[int, list[Json]] = {}
    sessions: dict[int, str] = {}
    for number, (person, what, word, answer) in enumerate(steps):
        if what == "restart":
            gateway.restart()
        before = histories.get(person, [])
        is_known = any(message["role"] == "assistant" for message in before)
        history = _next_request(before, "go on" if what in ("shorten", "cut") else what, word)
        told = None if answer is None else said(f"{LONG} {number} {answer}")
        session = await gateway.ask(*history, answer=told, person=str(person))
        if is_known and what != "begin" and any(message["role"] == "assistant" for message in history):
            assert session == sessions[person]
        sessions[person] = session
        histories[person] = history if told is None else [*history, told]


def _next_request(history: list[Json], what: str, word: str) -> list[Json]:
    """What somebody with this history sends; it ends with a message of theirs."""
    humans = [index for index, message in enumerate(history) if message["role"] == "user"]
    if what == "begin" or not humans:
        return [user(word)]
    if what in ("retry", "regenerate"):
        return history[: humans[-1] + 1]
    if what == "edit":
        return [*history[: humans[-1]], user(word)]
    if what == "shorten":
        return [*history[humans[len(humans) // 2] :], user(word)]
    return [*history, user(word)]


def _was_said_by(person: str, turn: Turn, gateway: Gateway) -> bool:
    """Whether this person, too, said all that, and was told the same."""
    story = [*turn.messages, *([] if turn.answer is None else [turn.answer])]
    for other in gateway.turns:
        theirs = [*other.messages, *([] if other.answer is None else [other.answer])]
        if other.person == person and theirs[: len(story)] == story:
            return True
    return False
