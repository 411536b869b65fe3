"""What is forgotten is gone, and stays away."""

from __future__ import annotations

from pathlib import Path

from metaclaw.memory.forgetting import Whose, clear, forget, forgotten_ids, select, tombstones
from metaclaw.memory.store import Extraction, MemoryStore
from tests.memory.units import NOW, asked, unit

SECRET = "xylophonebarn"


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_no_word_of_it_stays_in_any_file(store: MemoryStore, tmp_path: Path):
    store.add([unit(f"Note {number} on gardening.") for number in range(200)], now=NOW)
    (name,) = store.add([unit(f"The user's codename is {SECRET}.")], now=NOW)
    store.add([unit(f"Another note {number} on cooking.") for number in range(200)], now=NOW)
    assert SECRET.encode() in bytes_of(tmp_path)
    forgotten = forget(store, [name], why="asked", now=NOW)
    assert forgotten.ids == (name,)
    assert forgotten.is_clean
    assert SECRET.encode() not in bytes_of(tmp_path)
    assert store.get([name]) == []
    assert store.search(asked(f"codename {SECRET}")) == []
    assert forgotten_ids(store) == {name}


def test_the_earlier_wordings_of_what_was_edited_go_with_it(store: MemoryStore, tmp_path: Path):
    (name,) = store.add([unit(f"The user's codename is {SECRET}.")], now=NOW)
    fresh = store.edit(unit("The user has a codename.", id=name), now=NOW + 1)
    assert set(forget(store, [fresh], why="asked", now=NOW + 2).ids) == {name, fresh}
    assert SECRET.encode() not in bytes_of(tmp_path)


def test_it_is_not_learned_again_from_the_same_turn_but_from_a_new_one(store: MemoryStore):
    (name,) = store.add([unit("The user is called Ada.", turns=("t1",))], now=NOW)
    forget(store, [name], why="asked", now=NOW)
    assert store.add([unit("The user is called Ada.", turns=("t1",))], now=NOW) == [""]
    assert store.add([unit("The user is called Ada.", turns=("t2",))], now=NOW) != [""]


def test_the_summary_of_its_session_goes_with_it_and_no_other(store: MemoryStore):
    for session, text in (("s", "I live in Oslo."), ("other", "My dog is called Rex.")):
        said = unit(text, turns=(f"{session}-1",), subject=session)
        summary = unit(
            f"In this session the user said: {text} | What is the time?",
            kind="working_summary", scope="session", session=session, turns=(f"{session}-2",),
        )  # fmt: skip
        turns = {"exchange": f"{session}-x1", "turns": (f"{session}-1",), "units": (said,)}
        store.record(Extraction(agent="main", session=session, **turns), now=NOW)
        turns = {"exchange": f"{session}-x2", "turns": (f"{session}-2",), "units": (summary,)}
        store.record(Extraction(agent="main", session=session, **turns), now=NOW)
    gone = select(store, Whose(session="s"))[:1]
    forget(store, gone, why="asked", now=NOW)
    assert [one.session for one in store.latest() if one.kind == "working_summary"] == ["other"]


def test_a_reader_in_the_middle_keeps_the_log_and_is_told_of(store: MemoryStore, tmp_path: Path):
    (name,) = store.add([unit(f"The user's codename is {SECRET}.")], now=NOW)
    with MemoryStore.open_reader(tmp_path / "memory.db") as reader:
        reader.connection.execute("BEGIN")
        reader.connection.execute("SELECT count(*) FROM units").fetchone()
        store.connection.execute("PRAGMA busy_timeout = 10")
        assert not forget(store, [name], why="asked", now=NOW).is_clean
        assert [one.cleared_at for one in tombstones(store)] == [None]
        reader.connection.execute("COMMIT")
    assert clear(store, NOW + 1)
    assert [one.cleared_at for one in tombstones(store)] == [NOW + 1]
    assert SECRET.encode() not in bytes_of(tmp_path)


def test_units_are_chosen_by_whose_they_are(store: MemoryStore):
    extraction = Extraction(exchange="x", agent="main", session="s1", turns=("t1",), units=())
    store.record(extraction, now=NOW)
    one, two, three = store.add(
        [
            unit("The user is called Ada.", turns=("t1",)),
            unit("The agent's own note.", agent="other", turns=("t2",)),
            unit("The user sings.", scope="user", user="ada", said_at=NOW + 100, turns=("t3",)),
        ],
        now=NOW,
    )
    assert select(store, Whose(session="s1")) == [one]
    assert select(store, Whose(agent="other")) == [two]
    assert select(store, Whose(user="ada")) == [three]
    assert select(store, Whose(said_since=NOW + 1)) == [three]
    assert select(store, Whose(agent="main", said_since=NOW + 1)) == [three]
    assert select(store, Whose()) == []
