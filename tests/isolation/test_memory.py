"""What an agent remembers is found, counted, counted on, corrected and forgotten as its own alone.

All agents were told the same about the same, but for the one word; and each has users, workspaces and sessions of the
same names.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaclaw.errors import NotFoundError
from metaclaw.gateway.memory_desk import MemoryDesk
from metaclaw.journal.feedback import NewFeedback
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.remembering import Remembering
from metaclaw.memory.extraction.elsewhere import ToldExchange, discard, tell, waiting
from metaclaw.memory.extraction.rules import RuleExtractor
from metaclaw.memory.extraction.unread import UnreadExchanges, When
from metaclaw.memory.forgetting import Whose, forget, select
from metaclaw.memory.meanings import Meanings
from metaclaw.memory.portable import export
from metaclaw.memory.query import MemoryQuery
from metaclaw.memory.reports import plan, report_use
from metaclaw.memory.store import Extraction, MemoryStore
from metaclaw.memory.unindexed_words import UnindexedWords
from metaclaw.memory.vector_files import file_for, without_vector, write_vectors
from metaclaw.memory.word_index import WordIndex
from metaclaw.recall.candidates import About
from metaclaw.recall.memories import StoredMemories
from tests.isolation.canaries import AGENTS, canary, whose_are_in
from tests.learner.recording import Said, record
from tests.memory.units import NOW, asked, unit

MINE = AGENTS[:4]
QUESTION = "What is the mascot of the harbour team?"
NAMES = {"user": "ann", "workspace": "harbour", "session": "s"}
SUBJECT = "harbour.mascot"


def text(agent: str, more: str = "") -> str:
    return f"The mascot of the harbour team is {canary(agent)}{more}."


def plant(store: MemoryStore) -> None:
    for place, agent in enumerate(MINE):
        ids = store.add([unit(text(agent), agent=agent, id=f"m-{canary(agent)}", turns=(f"turn-{agent}",))], now=NOW)
        for number in range(place):  # as many more as it has places before it, of no use
            store.add([unit(f"Crate {number} of {canary(agent)} is blue.", agent=agent, said_at=1.0)], now=NOW)
        for number in range(place + 1):
            store.record(
                Extraction(
                    exchange=f"{agent}-{number}", agent=agent, session="s", turns=(f"turn-{agent}",), used=tuple(ids),
                    detail={canary(agent): 1},
                ),
                now=NOW,
            )  # fmt: skip
        gone = store.add([unit(f"Gone {n} of {canary(agent)}", agent=agent, turns=()) for n in range(place)], now=NOW)
        forget(store, gone, why="test", now=NOW)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "units.db"
    with MemoryStore.open(path) as store:
        plant(store)
    return path


@pytest.fixture
def store(path: Path) -> Iterator[MemoryStore]:
    with MemoryStore.open(path) as store:
        yield store


def everything(agent: str, **more: Any) -> MemoryQuery:
    return asked(QUESTION, agent=agent, limit=50, is_everything=True, with_history=True, **more)


QUESTIONS: dict[str, Callable[[MemoryStore, str], Any]] = {
    "search": lambda store, agent: store.search(asked(QUESTION, agent=agent)),
    "search everything": lambda store, agent: store.search(everything(agent)),
    "newest": lambda store, agent: store.newest(everything(agent)),
    "latest": lambda store, agent: store.latest(agent, limit=999),
    "after": lambda store, agent: store.after(None, agent=agent),
    "export": lambda store, agent: list(export(store, agent=agent)),
    "use": lambda store, agent: report_use(store, agent).most_used,
    "left out": lambda store, agent: list(report_use(store, agent).left_out),
    "chosen to be forgotten": lambda store, agent: store.get(select(store, Whose(agent=agent))),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_an_agent_remembers_is_told_of_it_alone(store: MemoryStore, name: str) -> None:
    for agent in MINE:
        assert whose_are_in(QUESTIONS[name](store, agent)) == {agent}


def test_what_is_counted_is_an_agents_own(store: MemoryStore) -> None:
    for place, agent in enumerate(MINE):
        counts, use = store.stats(agent), report_use(store, agent)
        assert (counts["units"], counts["forgotten"]) == (place + 1, place)
        assert (use.units, use.used, use.exchanges_read) == (place + 1, 1, place + 1)
        actions = plan(store, agent, NOW + 400 * 86_400)
        ids = {one for action in actions for one in action.ids}
        assert {one.agent for one in store.get(ids)} <= {agent}
        assert [action.number for action in actions] == ([place] if place else [])


def test_what_is_found_while_the_index_is_made_anew_is_the_agents_own(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM index_version")
        words = UnindexedWords(WordIndex(db), "The blue mascot")
        assert [words.num_units(agent) for agent in MINE] == [place + 1 for place in range(len(MINE))]
        found = {agent: words.rows_having(agent, "mascot") for agent in MINE}
        assert sorted(row for rows in found.values() for row in rows) == sorted({row for (row,) in found.values()})
        first, second, *_ = MINE
        assert words.rows_having(first, "blue") == []
        assert len(words.rows_having(second, "blue")) == 1
        assert set(words.words_of(first, [*found[first], *found[second]])) == set(found[first])


def test_the_same_words_are_kept_for_each_and_end_nobody_elses(tmp_path: Path) -> None:
    one, other = MINE[:2]
    with MemoryStore.open(tmp_path / "units.db") as store:
        for scope in ("agent", *NAMES):
            for agent in (one, other):
                owner = NAMES | {"scope": scope}
                store.add([unit("The gate is green.", agent=agent, subject="gate", **owner)], now=NOW)
        assert [len(store.latest(agent)) for agent in (one, other)] == [4, 4]
        for scope in ("agent", *NAMES):
            later = unit("The gate is red.", agent=one, subject="gate", said_at=NOW + 1, **NAMES | {"scope": scope})
            store.add([later], now=NOW + 1)
        assert {held.text for held in store.latest(one)} == {"The gate is red."}
        assert {held.text for held in store.latest(other)} == {"The gate is green."}
        # Nearly the same: found by its words, and by another owner's it is none of it.
        near = [unit("The gate is quite green.", agent=other, **NAMES | {"scope": "user"}, id="m-near")]
        near += [replace(near[0], id="m-bobs", user="bob")]
        assert store.add(near, now=NOW)[1] == "m-bobs"


def test_a_scope_is_seen_where_it_is_named_alone(tmp_path: Path) -> None:
    with MemoryStore.open(tmp_path / "units.db") as store:
        for agent in MINE[:2]:
            for scope in NAMES:
                mine = unit(text(agent, f", says the {scope}"), agent=agent, **NAMES | {"scope": scope})
                store.add(
                    [mine, replace(mine, id=f"{mine.id}0", text=mine.text + " Not hers", **{scope: "bob"})], now=NOW
                )
        for agent in MINE[:2]:
            for scope, name in NAMES.items():
                found = store.search(asked(QUESTION, agent=agent, **{scope: name}))
                assert [one.unit.text for one in found] == [text(agent, f", says the {scope}")]
            assert store.search(asked(QUESTION, agent=agent)) == []
        assert len(select(store, Whose(user="bob"))) == 2 * len(NAMES) - 4
        assert len(select(store, Whose(session="bob", agent=MINE[0]))) == 1


def test_forgetting_in_one_agent_leaves_the_others_whole(tmp_path: Path) -> None:
    one, other = MINE[:2]
    with MemoryStore.open(tmp_path / "units.db") as store:
        for agent in (one, other):
            said = unit(text(agent), agent=agent, turns=(f"turn-{agent}",), session="s")
            summary = unit(f"They spoke of {canary(agent)}", agent=agent, kind="working_summary", session="s", turns=())
            store.add([said, summary], now=NOW)
            shared = ("turn-shared", f"turn-{agent}")
            store.record(Extraction(exchange=agent, agent=agent, session="s", turns=shared), now=NOW)
        assert not store.has_gap(one, "s")
        gone = forget(store, select(store, Whose(agent=one, session="s")), why="test", now=NOW)
        assert len(gone.ids) == 2
        assert [len(store.latest(agent)) for agent in (one, other)] == [0, 2]
        assert [store.has_gap(agent, "s") for agent in (one, other)] == [True, False]


def test_a_summary_goes_with_what_its_own_agent_forgets(tmp_path: Path) -> None:
    """Another's session of the same name, read from the same turn, keeps its own."""
    one, other = MINE[:2]
    with MemoryStore.open(tmp_path / "units.db") as store:
        said = unit(text(one), agent=one, turns=("turn-one",))
        summary = unit("They spoke of boats", agent=other, kind="working_summary", session="s", turns=())
        store.add([said, summary], now=NOW)
        store.record(Extraction(exchange="x", agent=one, session="s", turns=("turn-one",)), now=NOW)
        assert forget(store, [said.id], why="test", now=NOW).ids == (said.id,)


def test_vectors_lie_in_a_file_for_each_agent(tmp_path: Path) -> None:
    axis = np.eye(4, dtype=np.float32)
    with MemoryStore.open(tmp_path / "units.db") as store:
        for place, agent in enumerate(MINE):
            store.add(
                [unit(f"{canary(agent)} number {n}", agent=agent, id=f"{agent}-{n}") for n in range(place + 1)], now=NOW
            )
        assert len(without_vector(store.connection, "model", None)) == 10
        assert len(without_vector(store.connection, "model", 7)) == 7
        for place, agent in enumerate(MINE):
            assert WordIndex(store.connection).num_units(agent) == place + 1
        with store.writing("embed"):
            vectors = {f"{agent}-{n}": axis[0].tobytes() for place, agent in enumerate(MINE) for n in range(place + 1)}
            assert write_vectors(store.connection, "model", 4, vectors) == 10
        assert without_vector(store.connection, "model", None) == {}
        meanings = Meanings("model", min_likeness=0.0)
        for place, agent in enumerate(MINE):
            file = file_for(store.connection, agent, "model")
            assert file is not None
            assert (file.agent, file.num_rows) == (agent, place + 1)
            found = meanings.near(store.connection, everything(agent), axis[0], limit=99)
            assert [one.candidate.id.rpartition("-")[0] for one in found] == [agent] * (place + 1)


def test_what_passed_elsewhere_waits_for_its_own_agent(tmp_path: Path) -> None:
    with MemoryStore.open(tmp_path / "units.db") as store:
        for agent in MINE[:2]:
            for session in ("s", f"of {agent}"):
                told = ToldExchange(agent=agent, session=session, prompt="I live in Oslo.", response="", said_at=NOW)
                assert tell(store, told) == 1
        for agent in MINE[:2]:
            assert {one.agent for one in waiting(store, agent)} == {agent}
            assert [one.agent for one in waiting(store, agent, "s")] == [agent]
        assert discard(store, Whose(agent=MINE[0], session="s")) == 1
        assert [len(waiting(store, agent)) for agent in MINE[:2]] == [1, 2]


def test_a_reading_that_one_agent_asks_for_reads_nothing_of_another(tmp_path: Path) -> None:
    async def read() -> tuple[int, int]:
        async with TurnJournal(tmp_path / "turns.db") as journal:
            for agent in MINE[:2]:
                said = Said(turn=f"turn-{agent}", exchange=f"x-{agent}", agent=agent, human="I live in Oslo.")
                await record(journal, said)
                liked = {"turn": said.turn, "session": None, "agent": agent, "only_agent": None, "score": 1.0}
                from_user = {"text": "My dog is called Rex.", "source": "user", "created_at": 1.0}
                await journal.add_feedback(NewFeedback(**liked, **from_user))
        with MemoryStore.open(tmp_path / "units.db") as store:
            for agent in MINE[:2]:
                tell(store, ToldExchange(agent=agent, session="t", prompt="I like tea.", response="", said_at=NOW))
            unread = UnreadExchanges(tmp_path / "turns.db", store, When(every_n=1, idle_s=0.0))
            rules = RuleExtractor()
            remembering = Remembering(
                turns_db=tmp_path / "turns.db", store=store, unread=unread, extractor=rules, fallback=rules
            )
            read = await remembering.read_now(MINE[0], None)
            assert {one.agent for one in store.latest()} == {MINE[0]}
            return read

    assert asyncio.run(read()) == (3, 2)


def test_what_is_recalled_and_what_a_desk_gives_out_is_the_agents_own(path: Path) -> None:
    async def look() -> None:
        memories, desk = StoredMemories(path, min_score=0.05), MemoryDesk(path)
        try:
            for place, agent in enumerate(MINE):
                about = About(agent=agent, session="s", user="ann", workspace="harbour", memory_scope=None)
                assert whose_are_in(await memories.found(QUESTION, about, NOW)) == {agent}
                theirs = f"m-{canary(MINE[place - 1])}"
                assert whose_are_in(await desk.get(f"m-{canary(agent)}", agent)) == {agent}
                for act in (desk.get(theirs, agent), desk.forget(theirs, agent, now=NOW)):
                    with pytest.raises(NotFoundError):
                        await act
        finally:
            await memories.close()
            await desk.close()

    asyncio.run(look())


def test_an_export_of_one_agent_is_taken_in_as_its_own(path: Path, tmp_path: Path) -> None:
    with MemoryStore.open(path) as store, closing(MemoryStore.open(tmp_path / "units.db")):
        for agent in MINE:
            lines = [json.loads(line) for line in export(store, agent=agent)]
            assert {line["agent"] for line in lines} == {agent}
