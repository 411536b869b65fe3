"""Long conversations with questions whose evidence is known, from the texts of `recall_texts`.

A person talks for some weeks, one session each; facts stand between small talk and what is said of others. Everything
follows from the seed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.recall_texts import LANGUAGES, LAST_WEEK, THREE_WEEKS_AGO, Language

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
START = 1_767_600_000.0  # a Monday of January 2026
NUM_WEEKS, TURNS_A_SESSION, PEOPLE_A_LANGUAGE = 14, 14, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message of the person."""

    id: str
    text: str
    at: float
    is_about: bool = True  # something that is worth remembering: no question, no thanks


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question; ``evidence`` is the message that answers it."""

    text: str
    kind: str
    evidence: str


@dataclass(slots=True, kw_only=True)
class Conversation:
    """All that one person said, and what is asked of it at ``now``."""

    person: str
    language: str
    now: float
    said: list[Said] = field(default_factory=list[Said])
    questions: list[Question] = field(default_factory=list[Question])


def conversations(seed: int = 5, texts: Mapping[str, Language] = LANGUAGES) -> list[Conversation]:
    """All of them; ``texts`` are the languages by name, English among them."""
    return [
        _conversation(
            name, language, texts["English"], f"{name.lower()}-{number}", random.Random(f"{seed}-{name}-{number}")
        )
        for name, language in texts.items()
        for number in range(PEOPLE_A_LANGUAGE)
    ]


def _conversation(name: str, language: Language, english: Language, person: str, rng: random.Random) -> Conversation:
    made = Conversation(person=person, language=name, now=START + (NUM_WEEKS - 1) * WEEK_S + 2 * DAY_S)
    weeks: list[list[tuple[str, str]]] = [[] for _ in range(NUM_WEEKS)]  # text, mark; "-" is nothing to remember
    values = {"steady": rng.sample(language.values, 6), "denied": rng.sample(language.values, 2)}
    for kind, facts in (("steady", language.steady), ("denied", language.denied)):
        for number, ((statement, _), value) in enumerate(zip(facts, values[kind], strict=True)):
            weeks[rng.randrange(NUM_WEEKS - 1)].append((statement.format(value), f"{kind}{number}"))
    for number, (statement, _) in enumerate(language.changing):
        old, new = rng.sample(language.values, 2)
        early, late = sorted(rng.sample(range(NUM_WEEKS - 1), 2))
        weeks[early].append((statement.format(old), ""))
        weeks[late].append((statement.format(new), f"changing{number}"))
    for number, week in enumerate(weeks):
        week.append((language.dated[0].format(rng.choice(language.values)), f"dated{number}"))
        while len(week) < TURNS_A_SESSION:
            pool, mark = (language.others, "") if rng.random() < 0.2 else (language.noise, "-")
            week.append((rng.choice(pool).format(rng.choice(language.values)), mark))
        rng.shuffle(week)
    marks = _say(made, weeks)
    _ask(made, language, english, marks)
    return made


def _say(made: Conversation, weeks: list[list[tuple[str, str]]]) -> dict[str, str]:
    marks: dict[str, str] = {}
    for number, week in enumerate(weeks):
        for place, (text, mark) in enumerate(week):
            one = Said(
                id=f"{made.person}/{number}/{place}", text=text, at=START + number * WEEK_S + 60.0 * place,
                is_about=mark != "-",
            )  # fmt: skip
            made.said.append(one)
            if mark:
                marks[mark] = one.id
    return marks


def _ask(made: Conversation, language: Language, english: Language, marks: dict[str, str]) -> None:
    for kind in ("steady", "denied", "changing"):
        facts: tuple[tuple[str, str], ...] = getattr(language, kind)
        foreign: tuple[tuple[str, str], ...] = getattr(english, kind)
        for number, (_, question) in enumerate(facts):
            made.questions.append(Question(text=question, kind=kind, evidence=marks[f"{kind}{number}"]))
            if made.language != "English" and number == 0:
                asked = foreign[number][1]
                made.questions.append(Question(text=asked, kind="in English", evidence=marks[f"{kind}{number}"]))
    for back, when in ((1, LAST_WEEK), (3, THREE_WEEKS_AGO)):
        text = language.dated[1].format(when[made.language])
        made.questions.append(Question(text=text, kind="dated", evidence=marks[f"dated{NUM_WEEKS - 1 - back}"]))
