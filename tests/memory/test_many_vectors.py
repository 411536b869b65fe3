"""Of many wide vectors the signs are compared first: what is nearest is found all the same, by whom it may be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from metaclaw.memory.meanings import Meanings
from metaclaw.memory.portable import import_units
from metaclaw.memory.query import MemoryQuery
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.vector_files import VectorFile, vector_files, write_vectors
from metaclaw.memory.vector_rows import mapped
from metaclaw.retrieval.vectors import Vectors, unit_rows
from tests.memory.units import asked, unit

WIDTH, NUMBER = 1000, 6000  # not a multiple of 64
NEAR = 50  # of the rows, to the question


@pytest.fixture(scope="module")
def meant() -> tuple[Vectors, Vectors]:
    """Rows that have much in common, fifty of them near to the question that comes with them."""
    rng = np.random.default_rng(7)
    common, question = rng.standard_normal((2, WIDTH), dtype=np.float32)
    rows = rng.standard_normal((NUMBER, WIDTH), dtype=np.float32) + 0.3 * common
    rows[:: NUMBER // NEAR] += np.linspace(0.6, 1.5, NEAR, dtype=np.float32)[:, None] * question
    return unit_rows(rows), unit_rows((question + 0.3 * common).reshape(1, -1))[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, meant: tuple[Vectors, Vectors]) -> Iterator[MemoryStore]:
    """Every second unit is another user's."""
    with MemoryStore.open(tmp_path_factory.mktemp("many") / "units.db") as store:
        units = [
            unit(f"Statement {n}.", id=f"m{n}", scope="user", user="me" if n % 2 else "you") for n in range(NUMBER)
        ]
        import_units(store, units)
        for first in range(0, NUMBER, 2500):  # the file grows between looks at it
            with store.writing("embed"):
                rows = {f"m{n}": meant[0][n].tobytes() for n in range(first, min(NUMBER, first + 2500))}
                write_vectors(store.connection, "wide", WIDTH, rows)
        yield store


def near(store: MemoryStore, meanings: Meanings, query: MemoryQuery, vector: Vectors, limit: int) -> list[str]:
    return [one.candidate.id for one in meanings.asked(vector).near(store.connection, query, limit=limit)]


def exact(meant: tuple[Vectors, Vectors]) -> list[str]:
    rows, vector = (one - meant[0][::2].mean(axis=0) for one in meant)
    return [f"m{n}" for n in np.argsort(-(rows @ vector) / np.linalg.norm(rows, axis=1))[: 2 * NEAR]]


def test_the_nearest_are_found_as_if_all_had_been_compared(store: MemoryStore, meant: tuple[Vectors, Vectors]) -> None:
    (file,) = vector_files(store.connection)
    vector, best = meant[1], exact(meant)
    everything = mapped(file, None)
    chosen = everything.worth_comparing(vector)
    assert chosen is not None
    assert len(chosen) < NUMBER
    assert everything.likeness(vector, chosen).tolist() == pytest.approx(
        everything.likeness(vector)[chosen].tolist(), abs=1e-6
    )
    meanings = Meanings("wide", min_likeness=0.5)
    query = asked("?", is_everything=True)
    assert near(store, meanings, query, vector, 40) == best[:40]
    assert set(best[:40]) <= {f"m{n}" for n in range(0, NUMBER, NUMBER // NEAR)}


def test_rows_that_come_later_are_compared_like_the_first(store: MemoryStore, meant: tuple[Vectors, Vectors]) -> None:
    (file,) = vector_files(store.connection)

    def of(num_rows: int) -> VectorFile:
        return VectorFile(
            id=file.id, agent=file.agent, model=file.model, width=file.width, path=file.path, num_rows=num_rows
        )

    grown = mapped(of(NUMBER), mapped(of(NUMBER - 100), None))
    assert grown.signs is not None
    assert grown.signs.shape == (-(-WIDTH // 64), NUMBER)
    known = mapped(of(NUMBER), None)
    for rows in (grown, known):
        chosen = rows.worth_comparing(meant[1])
        assert chosen is not None
        assert set(range(0, NUMBER, NUMBER // NEAR)) - set(chosen.tolist()) == set()


def test_what_is_near_and_may_not_be_found_does_not_hide_what_may(
    store: MemoryStore, meant: tuple[Vectors, Vectors]
) -> None:
    found = near(store, Meanings("wide", min_likeness=-0.9), asked("?", user="me"), meant[1], NUMBER)
    assert sorted(found) == sorted(f"m{n}" for n in range(1, NUMBER, 2))
