"""Words take another form with an update: the index is made anew beside all else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from metaclaw.memory import reindexing, unindexed_words
from metaclaw.memory.doctor import examine, mend
from metaclaw.memory.reindexing import Reindexing, reindex
from metaclaw.memory.store import MemoryStore
from tests.memory.units import NOW, asked, texts, unit

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "units.db"


@pytest.fixture
def store(path: Path) -> Iterator[MemoryStore]:
    with MemoryStore.open(path) as store:
        yield store


def make_old(store: MemoryStore, where: str = "1") -> None:
    """The index is of another form; of the units ``where`` it has nothing that anybody looks for."""
    store.connection.execute("UPDATE index_version SET version = 1")
    store.connection.execute(f"UPDATE words SET body = 'former' || rowid WHERE {where}")


def test_an_index_of_another_form_of_words_is_made_anew_once(store: MemoryStore):
    store.add([unit(f"The hiked hill number {n}") for n in range(3)], now=NOW)
    assert reindex(store) == 0
    store.connection.execute("UPDATE index_version SET version = 1")
    store.connection.execute("DELETE FROM words")
    assert reindex(store) == 3
    assert len(store.search(asked("hike"))) == 3
    assert examine(store) == []


TOLD = (
    "The stories of the mill are kept in Bergen.",
    "Ann hiked to the old boxes behind the mill.",
    "Die Mühle hat sieben Räder.",
    "Мельница стоит у реки.",
    "水车在河边。",
    "The category of a cat is decided on Monday.",
)


@pytest.mark.parametrize(
    "question",
    ["story of a mill", "hiking and a box", "Mühle", "МЕЛЬНИЦУ", "河边的水车", "Which cat?", "a zeppelin"],
)
def test_until_the_index_is_made_anew_the_units_themselves_are_read(store: MemoryStore, question: str):
    """After an update: the index is empty, or has the words in their former form."""
    store.add([unit(text, id=f"m{number}") for number, text in enumerate(TOLD)], now=NOW)
    store.add([unit("Of another agent: a story, a mill, a cat.", agent="other")], now=NOW)

    def found() -> dict[str, float]:
        return {one.unit.id: one.parts["words"] for one in store.search(asked(question)) if one.score > 0}

    usual = found()
    store.connection.execute("UPDATE index_version SET version = 1")
    store.connection.execute("DELETE FROM words")
    assert found() == pytest.approx(usual)
    assert reindex(store) == len(TOLD) + 1
    assert found() == usual


async def test_it_is_made_in_pieces_between_which_others_write_and_goes_on_where_it_was_ended(
    path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reindexing, "_BATCH", 10)
    store.add([unit(f"The hiked hill number {n}") for n in range(25)], now=NOW)
    make_old(store)
    rests = list[float]()

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        with closing(sqlite3.connect(path, timeout=0)) as other:  # at once, or not at all
            other.execute("BEGIN IMMEDIATE")

    with MemoryStore.open(path) as first:
        assert await Reindexing(first, rest=rest).step() == 10
    store.add([unit("A hill that came meanwhile")], now=NOW)
    with MemoryStore.open(path) as second:
        going_on = Reindexing(second, rest=rest)
        assert [await going_on.step() for _ in range(4)] == [10, 5, 0, 0]
    assert len(rests) == 3
    assert len(store.search(asked("hill", limit=50))) == 26
    assert examine(store) == []


def test_a_question_looks_at_some_of_what_is_not_indexed_and_finds_all_that_is(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reindexing, "_BATCH", 2)
    store.add([unit(f"The mill of {owner}.") for owner in ("Ann", "Ben", "Cem", "Dan", "Eva")], now=NOW)
    make_old(store, "rowid > 1")  # the words of the oldest are what they were

    def found() -> str:
        return " ".join(sorted(text.split()[-1].rstrip(".") for text in texts(store.search(asked("mill")))))

    monkeypatch.setattr(unindexed_words, "LOOKED_AT", 2)
    assert found() == "Ann Dan Eva"
    assert reindexing.reindex_some(store) == 2
    assert found() == "Ann Ben Cem Dan Eva"
    reindex(store)
    assert found() == "Ann Ben Cem Dan Eva"


def test_mending_makes_an_old_index_whole_too(store: MemoryStore):
    store.add([unit("The mill stands by the river.")], now=NOW)
    make_old(store)
    mend(store)
    assert examine(store) == []
    assert reindex(store) == 0
    assert texts(store.search(asked("mill"))) == ["The mill stands by the river."]
