"""Memory goes elsewhere and comes back whole."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.errors import InvalidRequestError
from metaclaw.memory.doctor import examine, mend
from metaclaw.memory.forgetting import forget
from metaclaw.memory.portable import backup, export, import_units, read_lines
from metaclaw.memory.secrets import holds_secret
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.units import KINDS, SOURCES
from tests.memory.units import NOW, asked, texts, unit

_UNITS = st.builds(
    unit,
    text=st.text(min_size=1, max_size=80).filter(lambda text: text.strip() and not holds_secret(text)),
    kind=st.sampled_from(KINDS),
    source=st.sampled_from(SOURCES),
    agent=st.sampled_from(["main", "other"]),
    subject=st.sampled_from(["", "user.city"]),
    trust=st.floats(0, 1),
    confidence=st.floats(0, 1),
    true_from=st.none() | st.floats(0, 1e9),
    standing=st.booleans(),
    turns=st.sets(st.text(st.characters(codec="ascii", min_codepoint=48), min_size=1, max_size=6), max_size=3).map(
        lambda names: tuple(sorted(names))
    ),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(_UNITS, max_size=8))
def test_what_is_exported_and_imported_is_the_same(tmp_path_factory: pytest.TempPathFactory, units):
    folder = tmp_path_factory.mktemp("portable")
    with MemoryStore.open(folder / "one.db") as one, MemoryStore.open(folder / "other.db") as other:
        one.add(units, now=NOW)
        lines = list(export(one))
        assert import_units(other, read_lines(lines)).num_new == len(lines)
        assert list(export(other)) == lines
        assert import_units(other, read_lines(lines)).num_new == 0
        assert examine(other) == []


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        ({"kind": "rumour"}, "kind is 'rumour'"),
        ({"text": ""}, "needs a text"),
        ({"text": 3}, "text must be a text"),
        ({"colour": "red"}, "'colour' is no field"),
        ({"trust": True}, "trust must be a number"),
        ({"standing": 1}, "standing is 1; it must be true or false"),
        ({"turns": "t1"}, "turns must be a list"),
        ({"scope": "session"}, "needs a session"),
        ({"said_at": 1732000000000}, "said_at is 1732000000000; times are in seconds"),  # no turn that it fitted could
        (
            {"true_until": -1e300},
            "true_until is -1e\\+300; times are in seconds",
        ),  # recall anything, nor `list` show it
        ({"created_at": float("nan")}, "created_at is nan; times are in seconds"),
    ],
)
def test_a_line_that_is_no_memory_is_named_and_nothing_is_taken(spoilt, why):
    good = {
        "id": "m-1",
        "kind": "semantic",
        "text": "A.",
        "agent": "main",
        "scope": "agent",
        "said_at": 1,
        "created_at": 1,
    }
    with pytest.raises(InvalidRequestError, match=f"line 2 .*{why}"):
        read_lines([json.dumps(good), json.dumps({**good, **spoilt})])
    with pytest.raises(InvalidRequestError, match="line 1 "):
        read_lines(["{"])
    with pytest.raises(InvalidRequestError, match="line 1 "):
        read_lines([json.dumps({"text": "A."})])


def test_a_backup_is_whole_beside_a_writer(store: MemoryStore, tmp_path: Path):
    store.add([unit("The user prefers tea.")], now=NOW)
    backup(store, tmp_path / "copy.db")
    store.add([unit("The user prefers coffee.")], now=NOW)
    with MemoryStore.open(tmp_path / "copy.db") as copy:
        assert texts(copy.search(asked("tea or coffee"))) == ["The user prefers tea."]
        assert examine(copy) == []
    with pytest.raises(InvalidRequestError, match="exists"):
        backup(store, tmp_path / "copy.db")


def test_the_doctor_finds_and_mends_an_index_that_does_not_fit(store: MemoryStore):
    kept, _ = store.add([unit("The user prefers tea."), unit("The user sings.")], now=NOW)
    store.connection.execute("DELETE FROM words WHERE rowid = 1")
    store.connection.execute("INSERT INTO words (rowid, body) VALUES (99, 'ghost')")
    store.connection.execute("INSERT INTO uses VALUES ('nobody', 1, 1.0)")
    assert {complaint.number for complaint in examine(store)} == {1}
    assert len(examine(store)) == 3
    mend(store)
    assert examine(store) == []
    assert [found.unit.id for found in store.search(asked("tea"))] == [kept]


def test_a_damaged_file_is_told_of_and_not_touched(tmp_path: Path):
    path = tmp_path / "memory.db"
    with MemoryStore.open(path) as store:
        store.add([unit(f"Note {number} about the garden and its {number} trees.") for number in range(400)], now=NOW)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = b"\xaa" * 4096
    path.write_bytes(bytes(content))
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        complaints = examine(MemoryStore(connection))
    finally:
        connection.close()
    assert complaints
    assert not complaints[0].is_mendable
    assert path.read_bytes() == bytes(content)


def test_an_import_brings_in_no_secret_and_nothing_that_was_forgotten(tmp_path):
    with MemoryStore.open(tmp_path / "units.db") as store:
        dog, cat = unit("My dog is called Rex."), unit("My cat is called Tom.")
        store.add([dog, cat], now=NOW)
        lines = [*export(store), json.dumps(asdict(unit("The password of the router is gartenzwerg.")))]
        forget(store, [dog.id], why="asked", now=NOW)
        done = import_units(store, read_lines(lines))
        assert (done.num_new, done.num_secret, done.num_forgotten) == (0, 1, 1)
        assert [one.id for one in store.latest()] == [cat.id]


def test_a_secret_is_refused_whoever_writes_it_down(tmp_path):
    with MemoryStore.open(tmp_path / "units.db") as store:
        kept = unit("The router is in the cellar.")
        with pytest.raises(InvalidRequestError, match="password"):
            store.add([kept, unit("Das Passwort vom Router ist gartenzwerg.")], now=NOW)
        assert store.latest() == []
        store.add([kept], now=NOW)
        with pytest.raises(InvalidRequestError, match="password"):
            store.edit(replace(kept, text="The password of the router is gartenzwerg."), now=NOW)
        assert [one.text for one in store.latest()] == [kept.text]
