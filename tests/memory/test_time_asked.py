"""A question that names a time prefers what was said or true in it; one about the past reaches what no longer holds."""

from __future__ import annotations

from metaclaw.memory.store import MemoryStore
from metaclaw.memory.times.asked import with_time
from tests.memory.units import NOW, asked, texts, unit

WEEK_S = 7 * 86_400.0


def test_of_what_is_said_every_week_that_of_the_week_comes_first_and_the_rest_after_it(store: MemoryStore) -> None:
    for number, hill in enumerate(["Elm", "Oak", "Ash", "Fir"]):
        store.add([unit(f"We did climb the {hill} hill.", said_at=NOW - number * WEEK_S)], now=NOW)
    found = texts(store.search(with_time(asked("Which hill did we climb two weeks ago?"))))
    assert found[0] == "We did climb the Ash hill."
    assert len(found) == 4


def test_however_much_was_said_at_other_times_that_of_the_time_is_reached(store: MemoryStore) -> None:
    store.add([unit("Lunch was at the Oak inn.", said_at=NOW - WEEK_S)], now=NOW)
    store.add([unit(f"Lunch lunch was at place{n}.", said_at=NOW - 50 * WEEK_S + n) for n in range(300)], now=NOW)
    found = texts(store.search(with_time(asked("Where was lunch last week?", limit=2))))
    assert found[0] == "Lunch was at the Oak inn."


def test_when_nothing_else_is_asked_only_what_is_of_the_time_is_found(store: MemoryStore) -> None:
    day = 86_400.0
    store.add(
        [unit("The boiler was repaired.", said_at=NOW - day), unit("The cat is ill.", said_at=NOW - 9 * day)], now=NOW
    )
    assert texts(store.search(with_time(asked("What was it yesterday?")))) == ["The boiler was repaired."]
    assert texts(store.search(with_time(asked("昨天呢？")))) == ["The boiler was repaired."]


def test_an_event_is_of_the_day_it_is_on_whenever_it_was_told(store: MemoryStore) -> None:
    store.add([unit("The dentist expects me.", said_at=NOW - 9 * WEEK_S, true_from=NOW + 86_400)], now=NOW)
    assert texts(store.search(with_time(asked("What is there tomorrow?")))) == ["The dentist expects me."]


def test_what_held_before_is_found_when_it_is_asked_for_and_only_then(store: MemoryStore) -> None:
    store.add([unit("I live in Basel.", subject="home", said_at=NOW - 20 * WEEK_S)], now=NOW)
    store.add([unit("I live in Lisbon.", subject="home", said_at=NOW - 2 * WEEK_S)], now=NOW)
    assert texts(store.search(with_time(asked("Where do I live?")))) == ["I live in Lisbon."]
    found = store.search(with_time(asked("Where did I live before?")))
    assert texts(found) == ["I live in Basel.", "I live in Lisbon."]
    assert found[0].unit.true_until == NOW - 2 * WEEK_S
    assert texts(store.search(with_time(asked("Where did I live ten weeks ago?"))))[0] == "I live in Basel."


def test_an_earlier_wording_that_was_corrected_never_held_and_is_not_found(store: MemoryStore) -> None:
    (name,) = store.add([unit("I live in Basle.")], now=NOW)
    store.edit(unit("I live in Basel.", id=name), now=NOW)
    assert texts(store.search(with_time(asked("Where did I live before?")))) == ["I live in Basel."]
    assert texts(store.search(with_time(asked("Where did I live today?")))) == ["I live in Basel."]


def test_a_time_opens_no_door_to_what_is_somebody_elses(store: MemoryStore) -> None:
    store.add([unit("I met Ann.", scope="user", user="bob"), unit("I met Cleo.", agent="other")], now=NOW)
    assert store.search(with_time(asked("Whom did I meet today?", user="ann"))) == []
    assert store.search(with_time(asked("today", user="ann"))) == []


def test_what_was_said_again_is_of_both_times(store: MemoryStore) -> None:
    store.add([unit("We climbed the Elm hill.", turns=("t1",), said_at=NOW - 5 * WEEK_S)], now=NOW)
    store.add([unit("We climbed the Oak hill.", turns=("t2",), said_at=NOW - 3 * WEEK_S)], now=NOW)
    store.add([unit("We climbed the Elm hill.", turns=("t3",), said_at=NOW - WEEK_S)], now=NOW)
    for question in ("Which hill was it last week?", "Which hill was it five weeks ago?"):
        assert texts(store.search(with_time(asked(question))))[0] == "We climbed the Elm hill."
    assert texts(store.search(with_time(asked("Which hill was it three weeks ago?"))))[0] == "We climbed the Oak hill."


def test_who_asks_what_must_not_be_finds_what_was_denied_before_what_was_not(store: MemoryStore) -> None:
    store.add([unit("I eat walnuts at breakfast."), unit("Ich esse keine walnuts.")], now=NOW)
    assert texts(store.search(asked("Never give me what, walnuts?")))[0] == "Ich esse keine walnuts."
