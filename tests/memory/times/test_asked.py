"""The time that a question asks about, in the languages of the extraction rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.memory.times.asked import asked_time
from metaclaw.memory.times.phrases import PHRASES

NOW = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)  # a Wednesday
TODAY, YESTERDAY, DAY_BEFORE, TOMORROW = ("11-25", "11-26"), ("11-24", "11-25"), ("11-23", "11-24"), ("11-26", "11-27")
LAST_WEEK, NEXT_WEEK, THIS_WEEK = ("11-16", "11-23"), ("11-30", "12-07"), ("11-23", "11-30")
LAST_MONTH, MARCH = ("10-01", "11-01"), ("03-01", "04-01")
LAST_YEAR = ("2025-01-01", "01-01")
THREE_WEEKS_AGO = ("10-31", "11-08")


def spans(text: str, now: datetime = NOW) -> list[tuple[str, str]]:
    def day(moment: float) -> str:
        return datetime.fromtimestamp(moment, now.tzinfo).date().isoformat().removeprefix("2026-")

    return [(day(first), day(last)) for first, last in asked_time(text, now).during]


@pytest.mark.parametrize(
    ("span", "questions"),
    [
        (
            TODAY,
            (
                "What did I say this morning? | Was wollte ich heute tun? | Qu'ai-je dit aujourd'hui ? | "
                "¿Qué dije hoy? | 我今天说了什么？ | 今日は何を言いましたか？"
            ),
        ),
        (
            YESTERDAY,
            (
                "Where was I yesterday? | Wo war ich gestern Abend? | Où étais-je hier ? | "
                "¿Dónde estuve ayer? | 昨天我去了哪里？ | 昨日どこに行きましたか？"
            ),
        ),
        (
            DAY_BEFORE,
            (
                "And the day before yesterday? | Was war vorgestern? | Et avant-hier ? | ¿Y anteayer? | "
                "前天呢？ | 一昨日は？"
            ),
        ),
        (TOMORROW, "What is on tomorrow? | Et demain ? | 明天有什么安排？ | 明日の予定は？"),
        (
            LAST_WEEK,
            (
                "Where did we hike last week? | Wo waren wir letzte Woche? | "
                "Où avons-nous marché la semaine dernière ? | ¿Qué hicimos la semana pasada? | "
                "上周我们去了哪里？ | 上个星期呢？ | 先週どこに行きましたか？"
            ),
        ),
        (THIS_WEEK, "this week | diese Woche | cette semaine | esta semana | 这周 | 今週"),
        (NEXT_WEEK, "next week | nächste Woche | la semaine prochaine | la próxima semana | 下周 | 来週"),
        (LAST_MONTH, "last month | letzten Monat | le mois dernier | el mes pasado | 上个月 | 先月"),
        (
            LAST_YEAR,
            (
                "last year | im letzten Jahr | l'année dernière | el año pasado | 去年 | 昨年 | in 2025 | "
                "2025年に"
            ),
        ),
        (
            MARCH,
            (
                "What did I buy in March? | Was war im März? | Et en mars ? | ¿Qué pasó en marzo? | "
                "3月我做了什么？ | 3月に何を？"
            ),
        ),
        (
            THREE_WEEKS_AGO,
            (
                "three weeks ago | vor drei Wochen | il y a trois semaines | hace 3 semanas | 三周前 | "
                "三週間前に"
            ),
        ),
        (("11-15", "11-16"), "ten days ago | vor 10 Tagen | il y a dix jours | hace diez días | 10天前 | 十日前"),
        (
            ("11-11", "11-26"),
            (
                "in the last two weeks | in den letzten zwei Wochen | ces 2 dernières semaines | "
                "en las últimas dos semanas"
            ),
        ),
        (
            ("11-03", "11-04"),
            (
                "on November 3rd | am 3. November | le 3 novembre | el 3 de noviembre | 11月3日 | 2026-11-03 | "
                "2026年11月3日"
            ),
        ),
        (("11-20", "11-21"), "last Friday | letzten Freitag | vendredi dernier | el viernes pasado"),
        (
            ("11-21", "11-23"),
            (
                "last weekend | letztes Wochenende | le week-end dernier | el fin de semana pasado | 上周末 | "
                "先週末"
            ),
        ),
        (("11-17", "11-18"), "上周二我做了什么？"),
    ],
)  # fmt: skip
def test_a_time_is_read_in_every_language(span: tuple[str, str], questions: str) -> None:
    for question in questions.split(" | "):
        assert (question, spans(question)) == (question, [span])


def test_a_day_of_the_week_alone_may_be_the_last_or_the_next() -> None:
    assert spans("What about the dentist on Monday?") == [("11-23", "11-24"), ("11-30", "12-01")]


def test_a_month_that_has_not_come_yet_is_that_of_last_year_unless_a_year_is_said() -> None:
    assert spans("What did we do in December?") == [("2025-12-01", "01-01")]
    assert spans("What is planned for December 2026?") == [("12-01", "2027-01-01")]


@pytest.mark.parametrize(
    "text",
    [
        "May I ask you something?", "They march on.", "What is my dog called?", "Wie heißt mein Hund?",
        "Hace falta pan.",
        "How do I sort a list of 12 numbers?", "Mes amis sont là.", "weekly report",
        "我的猫叫什么？", "20月30日",
        "What is 2024 divided by 8?", "What happened on 2026-13-45?", "", "lastweek", "mayonnaise and marching bands",
    ],
)  # fmt: skip
def test_what_is_no_time_is_none(text: str) -> None:
    assert spans(text) == []


def test_days_begin_where_the_person_is() -> None:
    here = NOW.astimezone(timezone(timedelta(hours=9)))  # there it is Thursday already
    assert spans("yesterday", here) == [("11-25", "11-26")]
    first, last = asked_time("yesterday", here).during[0]
    assert (datetime.fromtimestamp(first, UTC).hour, last - first) == (15, 86_400)


@pytest.mark.parametrize(
    "text",
    [
        "Where did I live before?", "What was my old job?", "my previous employer", "Wo habe ich früher gewohnt?",
        "Wie hieß mein alter Arbeitgeber?", "Où habitais-je avant ?", "mon ancien travail", "¿Dónde vivía antes?",
        "mi antiguo trabajo", "我以前住在哪里？", "前はどこに住んでいましたか？",
    ],
)  # fmt: skip
def test_a_question_about_the_past_is_known_as_one(text: str) -> None:
    assert asked_time(text, NOW).is_of_the_past


@pytest.mark.parametrize(
    "text",
    ["Read it before the meeting.", "How old is my cat?", "antes de comer", "Wie alt ist er?", "avant de partir"],
)
def test_other_questions_are_not_about_the_past(text: str) -> None:
    assert not asked_time(text, NOW).is_of_the_past


def test_the_words_that_asked_for_a_time_are_told_of() -> None:
    assert asked_time("Where did we hike last week?", NOW).words == "last week"
    assert asked_time("Where did I live before?", NOW).words == "before"


def test_phrases_are_in_small_letters_as_the_first_look_for_any_of_them_takes_a_text() -> None:
    patterns = [phrase.pattern.pattern.replace("(?P<", "(?<") for phrase in PHRASES]  # a group's name is no phrase
    assert [pattern for pattern in patterns if pattern != pattern.lower()] == []


@given(st.data())
def test_a_phrase_without_blanks_is_never_of_ascii_alone(data: st.DataObject) -> None:
    """A text of ASCII is not searched for any of them."""
    phrase = data.draw(st.sampled_from([phrase for phrase in PHRASES if not phrase.is_spaced]))
    assert not data.draw(st.from_regex(phrase.pattern, fullmatch=True)).isascii()
