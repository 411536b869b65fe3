"""What is remembered, found, contradicted, edited."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metaclaw.errors import InvalidRequestError, JournalError, NotFoundError
from metaclaw.memory.query import MemoryQuery
from metaclaw.memory.store import Extraction, MemoryStore
from tests.memory.units import NOW, asked, texts, unit


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("The user's dog is called Rex.", "what was the name of my dog again?"),
        ("Die Besprechung mit Frau Müller ist immer donnerstags.", "Wann ist die Besprechung mit Frau MÜLLER?"),
        ("用户住在上海浦东新区。", "上海的天气怎么样?"),
        ("ユーザーは毎朝コーヒーを飲む。", "コーヒーのおすすめは?"),
        ("사용자는 부산에서 일한다.", "부산 맛집 알려줘"),
        ("ผู้ใช้แพ้กุ้ง", "กุ้งอบ"),
        ("Пользователь не ест мясо.", "что приготовить если я не ем мясо"),
        ("المستخدم يعمل في بنك", "أين بنك"),
        ("उपयोगकर्ता दिल्ली में रहता है", "दिल्ली का मौसम"),
    ],
)
def test_a_statement_is_found_by_its_words_in_any_script(store: MemoryStore, text: str, question: str):
    store.add([unit(text), unit("Invoices are sent on the first of each month.")], now=NOW)
    assert texts(store.search(asked(question)))[:1] == [text]


def test_nothing_is_found_rather_than_something_poor(store: MemoryStore):
    store.add([unit("The user's dog is called Rex.")], now=NOW)
    assert store.search(asked("please tell me what you can do for me")) == []
    assert store.search(asked("write a long essay on the call of the wild in romantic poetry", min_score=0.3)) == []


def test_what_is_weaker_than_a_word_helps_to_order_and_makes_nothing_fit(store: MemoryStore):
    store.add([unit("Our cat is called Basel."), unit("The neighbours' cat is called Tango, not Rex.")], now=NOW)
    store.add([unit("Ich lerne Gitarre bei einem Lehrer aus Zenit.")], now=NOW)
    assert texts(store.search(asked("what is my cat called?")))[0] == "Our cat is called Basel."
    compound = store.search(asked("Woher ist mein Gitarrenlehrer?"))
    assert texts(compound)[0] == "Ich lerne Gitarre bei einem Lehrer aus Zenit."
    assert compound[0].score == 0
    assert store.search(asked("what is our own?", min_score=0.01)) == []


def test_how_rare_a_word_is_depends_on_nobody_elses_units(store: MemoryStore):
    store.add([unit("The garden has a pond."), unit("The garden has a fence.")], now=NOW)
    (alone,) = store.search(asked("pond garden", limit=1))
    store.add([unit(f"The pond number {number} is deep.", agent="other") for number in range(300)], now=NOW)
    assert store.search(asked("pond garden", limit=1)) == [alone]


def test_the_oldest_of_many_is_within_reach(store: MemoryStore):
    """PITFALLS B4-3: only the 500 newest were candidates."""
    store.add([unit("The spare key lies under the blue pot.", said_at=NOW - 9e7)], now=NOW)
    store.add([unit(f"Note {number}: ticket {number} was closed.", said_at=NOW) for number in range(1500)], now=NOW)
    assert texts(store.search(asked("where is the spare key?")))[:1] == ["The spare key lies under the blue pot."]


@pytest.mark.parametrize(
    "known",
    ["Note {n}: part {many} of machine {n} was oiled.", "The user keeps part {many} of machine {n} in drawer {few}."],
    ids=["nothing alike", "all alike"],
)
def test_what_it_takes_to_remember_something_does_not_grow_with_what_is_remembered(store: MemoryStore, known: str):
    """PITFALLS B4-2: one turn took 1 s beside 500 memories and 16 s beside 5,000. Counted in SQLite's own steps."""
    steps: list[int] = []

    def steps_of_one_more(number: int) -> int:
        steps.clear()
        store.connection.set_progress_handler(lambda: steps.append(1), 100)
        store.add([unit(f"The user keeps tool number {number} in drawer {number * 7}.", said_at=NOW + number)], now=NOW)
        store.connection.set_progress_handler(None, 0)
        return len(steps)

    def fill(first: int, last: int) -> None:
        units = [unit(known.format(n=n, many=n * 3, few=n % 13)) for n in range(first, last)]
        store.add(units, now=NOW)

    fill(0, 200)
    few = steps_of_one_more(1)
    fill(200, 4000)
    assert steps_of_one_more(2) < 2 * few + 20


def test_a_later_statement_on_the_same_subject_ends_the_earlier_one(store: MemoryStore):
    """PITFALLS B4-8: contradictions were logged, and both were told."""
    (first,) = store.add([unit("The user lives in Hamburg.", subject="user.city")], now=NOW)
    (second,) = store.add([unit("The user lives in Berlin.", subject="user.city", said_at=NOW + 50)], now=NOW + 50)
    assert texts(store.search(asked("where does the user live? user city"))) == ["The user lives in Berlin."]
    history = store.search(asked("where does the user live? user city", with_history=True))
    assert sorted(texts(history)) == ["The user lives in Berlin.", "The user lives in Hamburg."]
    (old,) = store.get([first])
    assert (old.superseded_by, old.true_until) == (second, NOW + 50)


def test_what_is_learned_late_does_not_end_what_was_said_after_it(store: MemoryStore):
    store.add([unit("The user lives in Berlin.", subject="user.city", said_at=NOW + 50)], now=NOW + 50)
    store.add([unit("The user lives in Hamburg.", subject="user.city", said_at=NOW)], now=NOW + 60)
    assert texts(store.search(asked("lives in user city"))) == ["The user lives in Berlin."]


def test_a_web_page_does_not_end_what_the_user_said(store: MemoryStore):
    """Poisoning: trust is in the store, not in the prompt."""
    store.add([unit("The user's bank is GLS.", subject="user.bank", trust=1.0)], now=NOW)
    store.add([unit("The user's bank is Evil Inc.", subject="user.bank", trust=0.3, source="tool")], now=NOW)
    assert "The user's bank is GLS." in texts(store.search(asked("which bank")))
    assert texts(store.search(asked("which bank", min_trust=0.5))) == ["The user's bank is GLS."]


def test_the_same_again_is_one_unit_with_both_turns(store: MemoryStore):
    (first,) = store.add([unit("The user prefers green tea over coffee in the morning.", turns=("a",))], now=NOW)
    (again,) = store.add([unit("the user prefers  GREEN TEA over coffee in the morning", turns=("b",))], now=NOW)
    (nearly,) = store.add([unit("In the morning the user prefers green tea over coffee!", turns=("c",))], now=NOW)
    assert first == again == nearly
    assert store.get([first])[0].turns == ("a", "b", "c")
    assert store.stats()["units"] == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Deploy to the staging server on Friday evenings.", "Never deploy to the staging server on Friday evenings."),
        ("Die Rechnung wird am Montag bezahlt.", "Die Rechnung wird am Montag nicht bezahlt."),
        ("The release branch of the project is 2.4.", "The release branch of the project is 2.5."),
        ("用户喜欢在早上开会讨论项目", "用户不喜欢在早上开会讨论项目"),
    ],
)
def test_a_number_or_a_not_makes_another_statement(store: MemoryStore, one: str, other: str):
    store.add([unit(one), unit(other)], now=NOW)
    assert store.stats()["units"] == 2


def test_an_edit_takes_the_place_and_keeps_the_earlier_wording_as_history(store: MemoryStore):
    (name,) = store.add([unit("The user works at Acme.")], now=NOW)
    (old,) = store.get([name])
    fresh = store.edit(unit("The user works at Apex.", id=name), now=NOW + 5)
    assert texts(store.search(asked("works at Acme or Apex"))) == ["The user works at Apex."]
    assert store.get([name])[0].superseded_by == fresh
    with pytest.raises(NotFoundError):
        store.edit(old, now=NOW + 6)


def test_an_exchange_is_read_once(store: MemoryStore):
    extraction = Extraction(
        exchange="x", agent="main", session="s", turns=("t",), units=(unit("The user is a nurse."),)
    )
    assert len(store.record(extraction, now=NOW)) == 1
    assert store.record(extraction, now=NOW) == []
    assert store.was_read(["x", "y"]) == {"x"}
    assert store.stats()["units"] == 1


def use(store: MemoryStore, name: str, *, exchange: str, now: float) -> None:
    store.record(Extraction(exchange=exchange, agent="main", session="s", turns=(), used=(name,)), now=now)


def test_a_use_is_counted_once_an_exchange_and_only_of_what_there_is(store: MemoryStore):
    (name,) = store.add([unit("The user prefers tea.")], now=NOW)
    for exchange in ("x", "x", "y"):
        use(store, name, exchange=exchange, now=NOW)
    use(store, "m-forgotten", exchange="z", now=NOW)
    assert store.connection.execute("SELECT unit, number FROM uses").fetchall() == [(name, 2)]


def test_uses_change_nothing_of_what_is_known(store: MemoryStore):
    """PITFALLS B4-5: reading overwrote when a memory was changed, and made it count for more."""
    (name,) = store.add([unit("The user prefers tea.")], now=NOW)
    before = store.get([name])
    use(store, name, exchange="x", now=NOW + 100)
    assert store.get([name]) == before


def test_what_is_used_stays_and_what_is_not_fades(store: MemoryStore):
    """PITFALLS B4-4: there it was the other way round."""
    used, unused = store.add([unit("The user prefers green tea."), unit("The user likes green apples.")], now=NOW)
    for day in range(20):
        use(store, used, exchange=f"x{day}", now=NOW + day * 86_400)
    later = NOW + 400 * 86_400
    scores = {found.unit.id: found.parts["freshness"] for found in store.search(asked("green tea apples", now=later))}
    assert scores[used] > scores[unused] >= 0.7


def test_what_was_used_lately_is_fresher_than_what_was_used_as_often_long_ago(store: MemoryStore):
    """PITFALLS B4-4: what was used and then rested fell below what nobody ever needed."""
    lately, once = store.add([unit("The user prefers green tea."), unit("The user likes green apples.")], now=NOW)
    year = 365 * 86_400
    use(store, once, exchange="x", now=NOW + 1)
    use(store, lately, exchange="y", now=NOW + 2 * year)
    later = NOW + 2 * year + 86_400
    scores = {found.unit.id: found.parts["freshness"] for found in store.search(asked("green tea apples", now=later))}
    assert scores[lately] > 0.99
    assert 0.7 < scores[once] < 0.8


def test_the_last_words_of_a_long_question_are_looked_for_too(store: MemoryStore):
    """PITFALLS B4-7: the first twelve words of a question were looked for, "the" among them."""
    rare = ["abacus", "bassoon", "cutlass", "dulcimer", "ermine", "falafel", "gazebo", "harpoon", "igloo", "jigsaw",
            "kayak", "lantern", "mandolin", "nutmeg", "obelisk", "pelican", "quartz", "rhubarb", "sextant"]  # fmt: skip
    store.add([unit(f"Somebody once owned a {word}.") for word in rare], now=NOW)
    store.add([unit("The spare key lies under the blue pot.")], now=NOW)
    question = f"Between {', '.join(rare)} and all that: where is the spare key?"
    found = texts(store.search(asked(question, limit=30)))
    assert "The spare key lies under the blue pot." in found


def test_nothing_that_holds_a_secret_is_kept_whichever_way_it_comes(store: MemoryStore):
    """PITFALLS S14: what was kept once came back in every prompt. What comes with it is not kept either."""
    harmless, secret = unit("The user prefers tea."), unit("The password of the wifi is sunflower")
    with pytest.raises(InvalidRequestError, match="a password, a key"):
        store.add([harmless, secret], now=NOW)
    assert store.stats().get("units", 0) == 0
    (name,) = store.add([harmless], now=NOW)
    with pytest.raises(InvalidRequestError, match="a password, a key"):
        store.edit(unit(secret.text, id=name), now=NOW)
    assert [one.text for one in store.latest()] == [harmless.text]


_NAMES = st.sampled_from(["a", "b", None])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "agent", "workspace", "session"]), st.sampled_from(["one", "two"]), _NAMES),
        max_size=12,
    ),
    st.tuples(st.sampled_from(["one", "two"]), _NAMES, _NAMES, _NAMES),
)
def test_nobody_finds_what_is_not_theirs(tmp_path_factory: pytest.TempPathFactory, kept, asker):
    """PITFALLS S13: grants were stored, and never asked about when reading."""
    agent, user, workspace, session = asker
    with MemoryStore.open(tmp_path_factory.mktemp("scopes") / "memory.db") as store:
        for number, (scope, owner, name) in enumerate(kept):
            if scope == "agent" or name:
                more = {} if scope == "agent" else {scope: name}
                store.add([unit(f"The code word is canary{number}.", agent=owner, scope=scope, **more)], now=NOW)
        found = store.search(
            MemoryQuery(
                text="what is the code word",
                agent=agent,
                user=user,
                workspace=workspace,
                session=session,
                now=NOW,
                limit=99,
            )
        )
        mine = {"user": user, "workspace": workspace, "session": session}
        allowed = [
            f"The code word is canary{number}."
            for number, (scope, owner, name) in enumerate(kept)
            if owner == agent and (scope == "agent" or (name and mine[scope] == name))
        ]
        assert sorted(texts(found)) == sorted(allowed)


def test_a_broken_file_is_refused_and_stays_as_it_is(tmp_path):
    """PITFALLS B4-10: there it was renamed, then overwritten."""
    path = tmp_path / "memory.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalError, match=r"memory\.db"):
        MemoryStore.open(path)
    assert path.read_bytes() == b"not a database at all" * 100
    assert list(tmp_path.iterdir()) == [path]


def test_a_locked_store_says_so_and_changes_nothing(tmp_path):
    with MemoryStore.open(tmp_path / "memory.db") as store:
        store.connection.execute("PRAGMA busy_timeout = 10")
        other = sqlite3.connect(tmp_path / "memory.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked"):
            store.add([unit("The user prefers tea.")], now=NOW)
        other.execute("ROLLBACK")
        other.close()
        assert store.stats().get("units", 0) == 0


@pytest.mark.parametrize(
    "more",
    [{"text": " "}, {"text": "x" * 2001}, {"trust": 1.5}, {"scope": "user"}, {"true_from": 5.0, "true_until": 4.0}],
)
def test_a_unit_that_makes_no_sense_is_refused(more):
    with pytest.raises(InvalidRequestError):
        unit(**{"text": "A statement.", **more})
