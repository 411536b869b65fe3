"""Units are found by their meaning too, by whom they may be; and a vector goes with its unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from metaclaw.errors import UpstreamError
from metaclaw.memory.asking import Asking
from metaclaw.memory.doctor import examine, mend
from metaclaw.memory.embedding import UnitEmbedding
from metaclaw.memory.forgetting import forget
from metaclaw.memory.query import MemoryQuery
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.vector_files import HEADER_BYTES, num_stray_rows, vector_files, write_vectors
from metaclaw.retrieval.breaker import Breaker
from metaclaw.retrieval.embedder import Kind
from metaclaw.retrieval.vectors import Vectors, unit_rows
from tests.fakes.embedding_api import SUBJECTS
from tests.memory.units import NOW, asked, texts, unit

pytestmark = pytest.mark.anyio
PAID, GIT, MAIL = "The invoice is due in May.", "We keep the code in git.", "The inbox is read on Mondays."


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Subjects:
    """What a text means is which subject it names, and a little what it is itself, so that no two vectors are equal."""

    def __init__(self, name: str = "subjects", width: int = 24) -> None:
        self.name = name
        self.width = width
        self.is_down = False
        self.num_embedded = 0

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> Vectors:
        if self.is_down:
            raise UpstreamError("down", status=503)
        self.num_embedded += len(texts)
        return unit_rows([self.row(text) for text in texts])

    def row(self, text: str) -> list[float]:
        named = [3.0 * any(word in text.lower() for word in subject) for subject in SUBJECTS]
        own = np.random.default_rng([len(text), *text.encode()]).random(self.width - len(named)) / 4
        return [*named, *own]


async def embedded(store: MemoryStore, embedder: Subjects) -> int:
    embedding = UnitEmbedding(store, Breaker(embedder))
    number = 0
    while done := await embedding.step():
        number += done
    return number


async def found(store: MemoryStore, query: MemoryQuery, embedder: Subjects) -> list[str]:
    meaning = await Asking(Breaker(embedder), min_likeness=0.5).meaning(query.text)
    return texts(store.search(query, meaning))


def vector_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes()[HEADER_BYTES:] for path in (folder / "vectors").iterdir())


async def test_a_unit_that_shares_no_word_with_a_question_is_found_and_nothing_that_is_not_like_it(store: MemoryStore):
    embedder = Subjects()
    store.add([unit(text) for text in (PAID, GIT, MAIL)], now=NOW)
    question = asked("Which payment is open?", min_score=0.4)
    assert await found(store, question, embedder) == []
    assert await embedded(store, embedder) == 3
    assert await found(store, question, embedder) == [PAID]
    assert await found(store, asked("Was kostet ein Boot?", min_score=0.4), embedder) == []


async def test_words_and_meaning_are_joined(store: MemoryStore):
    embedder = Subjects()
    store.add([unit(text) for text in (PAID, GIT, MAIL, "A blue boat.")], now=NOW)
    await embedded(store, embedder)
    both = await found(store, asked("The payment for the blue boat", min_score=0.3), embedder)
    assert set(both) == {PAID, "A blue boat."}
    assert await found(store, asked("invoice due"), embedder) == [PAID]


async def test_scope_trust_and_validity_hold_for_meanings_too_however_many_are_nearer(store: MemoryStore):
    embedder = Subjects()
    subjects = ["Invoice", "Invoice", "Mail", "Git"]
    theirs = [unit(f"{subjects[n % 4]} number {n} of Bob", scope="user", user="bob") for n in range(300)]
    others = [unit("An invoice of ops", agent="ops"), unit("An invoice from the web", trust=0.1)]
    ended = [unit("The invoice address was Basel", subject="x"), unit("It is Lisbon now", subject="x", said_at=NOW + 1)]
    store.add([*theirs, *others, *ended, unit("A rechnung for docker")], now=NOW)
    await embedded(store, embedder)
    mine = await found(store, asked("payment", user="ann", min_trust=0.2, limit=2, min_score=0.1), embedder)
    assert mine == ["A rechnung for docker"]


async def test_no_byte_of_the_vector_of_what_is_forgotten_stays(store: MemoryStore, tmp_path: Path):
    embedder = Subjects()
    kept, gone = store.add([unit(PAID), unit(GIT)], now=NOW)
    await embedded(store, embedder)
    vectors = {text: unit_rows([embedder.row(text)])[0].tobytes() for text in (PAID, GIT)}
    assert vectors[GIT] in vector_bytes(tmp_path)
    forget(store, [gone], why="asked", now=NOW)
    assert vectors[GIT] not in vector_bytes(tmp_path)
    assert vectors[PAID] in vector_bytes(tmp_path)
    assert [one.id for one in store.get([kept, gone])] == [kept]
    assert await found(store, asked("repository"), embedder) == []
    assert examine(store) == []


async def test_a_kill_between_a_vector_and_its_row_loses_nothing_and_leaves_nothing(store: MemoryStore, tmp_path: Path):
    embedder = Subjects()
    _, gone = store.add([unit(PAID), unit(GIT)], now=NOW)
    await embedded(store, Subjects())
    (late,) = store.add([unit(MAIL)], now=NOW)
    vector = unit_rows([embedder.row(MAIL)])[0].tobytes()
    store.connection.execute("BEGIN IMMEDIATE")
    write_vectors(store.connection, embedder.name, embedder.width, {late: vector})
    store.connection.execute("ROLLBACK")  # as SQLite does for whoever comes after the kill
    assert vector in vector_bytes(tmp_path)
    assert examine(store) == []
    assert num_stray_rows(store.connection) == 1
    forget(store, [gone], why="asked", now=NOW)
    assert vector not in vector_bytes(tmp_path)
    assert num_stray_rows(store.connection) == 0
    assert await embedded(store, embedder) == 1
    assert await found(store, asked("email"), embedder) == [MAIL]
    assert await found(store, asked("payment"), embedder) == [PAID]


async def test_a_unit_that_is_forgotten_while_it_is_embedded_gets_no_vector(store: MemoryStore, tmp_path: Path):
    (name,) = store.add([unit(GIT)], now=NOW)
    forget(store, [name], why="asked", now=NOW)
    with store.writing("test"):
        assert write_vectors(store.connection, "subjects", 24, {name: bytes(96)}) == 0


async def test_another_model_makes_vectors_of_its_own_and_the_former_ones_stay_until_it_has(store: MemoryStore):
    before, after = Subjects("before"), Subjects("after", width=30)
    store.add([unit(PAID), unit(GIT)], now=NOW)
    await embedded(store, before)
    embedding = UnitEmbedding(store, Breaker(after))
    assert await embedding.step() == 2
    assert [file.model for file in vector_files(store.connection)] == ["before", "after"]
    assert await found(store, asked("payment"), before) == [PAID]
    assert await embedding.step() == 0
    assert [(file.model, file.width) for file in vector_files(store.connection)] == [("after", 30)]
    assert await found(store, asked("payment"), after) == [PAID]
    assert await found(store, asked("payment"), before) == []


async def test_a_file_that_was_lost_or_cut_is_known_for_that_and_made_anew(store: MemoryStore, tmp_path: Path):
    embedder = Subjects()
    store.add([unit(PAID), unit(GIT)], now=NOW)
    await embedded(store, embedder)
    (file,) = vector_files(store.connection)
    file.path.write_bytes(file.path.read_bytes()[:-4])
    (tmp_path / "vectors" / "stray.f32").write_bytes(b"of a process that was killed")
    assert await found(store, asked("the invoice for my payment", min_score=0.1), embedder) == [PAID]
    assert {one.what.partition(" that")[0] for one in examine(store)} == {"files of vectors"}
    mend(store)
    assert examine(store) == []
    assert await embedded(store, embedder) == 2
    assert await found(store, asked("payment"), embedder) == [PAID]
    assert len(list((tmp_path / "vectors").iterdir())) == 1


async def test_an_embedder_that_is_down_leaves_the_words_and_its_units_for_later(store: MemoryStore):
    embedder = Subjects()
    store.add([unit(PAID)], now=NOW)
    embedder.is_down = True
    embedding = UnitEmbedding(store, Breaker(embedder, clock=lambda: 0.0))
    assert await embedding.step() is None
    assert await found(store, asked("invoice due in May"), embedder) == [PAID]
    embedder.is_down = False
    assert await embedded(store, embedder) == 1


async def test_nothing_is_looked_for_again_until_the_store_changes(store: MemoryStore, tmp_path: Path):
    embedder = Subjects()
    store.add([unit(PAID)], now=NOW)
    with MemoryStore.open(tmp_path / "memory.db") as other:
        embedding = UnitEmbedding(other, Breaker(embedder))
        assert [await embedding.step() for _ in range(3)] == [1, 0, 0]
        store.add([unit(GIT)], now=NOW)
        assert [await embedding.step() for _ in range(2)] == [1, 0]
    assert embedder.num_embedded == 2
