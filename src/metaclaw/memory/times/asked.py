"""Which time a question asks about.

Owns reading spans of time in a question, counted from a moment; refuses to know what happened in them. Invariant: it is
pure, and what it is not sure of is not a time: a question without one is asked of all times.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo

from metaclaw.memory.extraction.dates import DAYS, MONTHS
from metaclaw.memory.query import MemoryQuery, Range
from metaclaw.memory.times.phrases import FORMERLY, NUMBERS, PHRASES, Phrase, Span, may_name_a_time

_ABOUT_WEEKS = timedelta(days=4)  # "three weeks ago" is no calendar week
# Names of months that are other words too, or other languages': only after a word such as "in".
_DOUBTFUL = ("march", "may", "mars", "mar", "mai", "sept", "sep", "jan", "dec", "dez", "juin", "august")
_MONTH_NAMES = "|".join(sorted((name for name in MONTHS if len(name) > 3 and name not in _DOUBTFUL), key=len)[::-1])
_ANY_MONTH = f"{_MONTH_NAMES}|{'|'.join(_DOUBTFUL)}"
_BEFORE_MONTH = r"(?:in|during|since|im|en|au mois de?|en el mes de|de|of|last|this|letzten|diesen)"
_DAY = re.compile(r"(?<!\d)(\d{4})-(\d{1,2})-(\d{1,2})(?!\d)|(?<!\d)(\d{4})年(\d{1,2})月(\d{1,2})[日号號]")
_DAY_OF_MONTH = re.compile(
    rf"(?<!\w)(?:(?P<d1>\d{{1,2}})(?:st|nd|rd|th|er|\.)? (?:of |de )?(?P<m1>{_ANY_MONTH})"
    rf"|(?P<m2>{_ANY_MONTH}) (?P<d2>\d{{1,2}})(?:st|nd|rd|th)?)(?:,? (?:de |del )?(?P<y>\d{{4}}))?(?!\w)"
    r"|(?P<m3>\d{1,2})月(?P<d3>\d{1,2})[日号號]",
    re.IGNORECASE,
)
_MONTH = re.compile(
    rf"(?<!\w)(?:{_BEFORE_MONTH} (?P<early>{_ANY_MONTH})|(?P<name>{_MONTH_NAMES}))"
    r"(?:,? (?:de |del )?(?P<y1>\d{4}))?(?!\w)"
    r"|(?:(?P<y2>\d{4})年|(?P<last>去年|昨年))?(?<!\d)(?P<number>1[0-2]|[1-9])月(?!\d|前)",
    re.IGNORECASE,
)
_YEAR = re.compile(
    r"(?<!\w)(?:in|during|im jahr|en|en el año|pendant)(?: the year| l['’]année)? ((?:19|20)\d\d)(?![\w-])"
    r"|((?:19|20)\d\d)年(?!\d)",
    re.IGNORECASE,
)
_SPACED_DAYS = "|".join(name for name in DAYS if ord(name[0]) < 0x3000)
_UNSPACED_DAYS = "|".join(name for name in DAYS if ord(name[0]) >= 0x3000)
_BEFORE_DAY = r"last|next|on|letzte[nrm]?|nächste[nrm]?|am|vergangene[nrm]?|le|el pasado|el próximo|el"
_WEEKDAY = re.compile(
    rf"(?<!\w)(?:(?P<which>{_BEFORE_DAY}) )?(?P<day>{_SPACED_DAYS})"
    r"(?: (?P<after>dernier|prochain|pasado|próximo|que viene))?(?!\w)"
    rf"|(?P<cjk>上(?:个|個)?|下(?:个|個)?|这个?|這個?)?(?P<cjk_day>{_UNSPACED_DAYS})",
    re.IGNORECASE,
)
_PAST = ("last", "letzte", "vergangene", "dernier", "pasado", "el pasado")
_NEXT = ("next", "nächste", "prochain", "próximo", "que viene", "el próximo")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTime:
    """What a question says of time.

    ``during`` are the spans it may mean, from and until in seconds since 1970; none for all times. ``words`` are those
    that said so. ``is_of_the_past`` when it asks for what was before.
    """

    during: tuple[Range, ...] = ()
    words: str = ""
    is_of_the_past: bool = False


def asked_time(text: str, now: datetime) -> AskedTime:
    """The time that ``text`` asks about at ``now``, in whose time zone days begin."""
    formerly = [match[0] for match in FORMERLY.finditer(text)]
    for read in (_explicit, _phrase, _weekday, _named):
        if found := read(text, now):
            words, days = found
            during = tuple((_start(first, now.tzinfo), _start(last, now.tzinfo)) for first, last in days)
            return AskedTime(during=during, words=" ".join([words, *formerly]), is_of_the_past=bool(formerly))
    return AskedTime(words=" ".join(formerly), is_of_the_past=bool(formerly))


_Days = tuple[str, list[tuple[date, date]]]


def _explicit(text: str, now: datetime) -> _Days | None:
    if match := _DAY.search(text):
        year, month, day = (int(part) for part in match.groups() if part)
        return _one_day(match[0], year, month, day)
    if match := _DAY_OF_MONTH.search(text):
        name = match["m1"] or match["m2"]
        month = MONTHS[name.lower()] if name else int(match["m3"])
        day = int(match["d1"] or match["d2"] or match["d3"])
        if match["y"]:
            return _one_day(match[0], int(match["y"]), month, day)
        near = [one for year in (now.year - 1, now.year, now.year + 1) if (one := _date(year, month, day))]
        if near:
            best = min(near, key=lambda one: abs(one - now.date()))
            return match[0], [(best, best + timedelta(days=1))]
    return None


def _phrase(text: str, now: datetime) -> _Days | None:
    for phrase in PHRASES if may_name_a_time(text) else ():
        if match := phrase.pattern.search(text):
            return match[0], [_span(phrase, _number(match), now.date())]
    return None


def _number(match: re.Match[str]) -> int:
    if "n" not in match.re.groupindex:
        return 1
    said = match["n"]
    if said is None:  # "a couple of"
        return 2
    return int(said) if said.isdigit() else NUMBERS[said.lower()]


def _span(phrase: Phrase, number: int, today: date) -> tuple[date, date]:
    back = phrase.back * number
    if phrase.is_until_now:
        first = today - timedelta(weeks=back) if phrase.span == "week" else _first(phrase.span, back, today)
        return first, today + timedelta(days=1)
    if phrase.span == "week" and "n" in phrase.pattern.groupindex and back > 1:
        day = today - timedelta(weeks=back)
        return day - _ABOUT_WEEKS, day + _ABOUT_WEEKS
    if phrase.span == "weekend":
        saturday = today - timedelta(days=today.weekday() + 2 if back > 0 else today.weekday() - 5)
        return saturday, saturday + timedelta(days=2)
    return _first(phrase.span, back, today), _first(phrase.span, back - 1, today)


def _first(span: Span, back: int, today: date) -> date:
    """The first day of the span that many ago."""
    if span == "day":
        return today - timedelta(days=back)
    if span in ("week", "weekend"):
        return today - timedelta(days=today.weekday(), weeks=back)
    if span == "month":
        months = today.year * 12 + today.month - 1 - back
        return date(max(1, months // 12), months % 12 + 1, 1)
    return date(max(1, today.year - back), 1, 1)


def _weekday(text: str, now: datetime) -> _Days | None:
    match = _WEEKDAY.search(text)
    if match is None:
        return None
    name = (match["day"] or match["cjk_day"]).lower()
    today = now.date()
    past = today - timedelta(days=(today.weekday() - DAYS[name]) % 7 or 7)
    coming = today + timedelta(days=(DAYS[name] - today.weekday()) % 7)
    which = (match["after"] or match["which"] or "").lower()
    if match["cjk"]:  # of that week, not the nearest
        weeks = {"上": 1, "下": -1}.get(match["cjk"][0], 0)
        days = [_first("week", weeks, today) + timedelta(days=DAYS[name])]
    else:
        days = [past] if which.startswith(_PAST) else [coming] if which.startswith(_NEXT) else [past, coming]
    return match[0], [(day, day + timedelta(days=1)) for day in days]


def _named(text: str, now: datetime) -> _Days | None:
    """A month or a year by its name."""
    if match := _MONTH.search(text):
        name = match["early"] or match["name"]
        month = MONTHS[name.lower()] if name else int(match["number"])
        said = match["y1"] or match["y2"]
        year = int(said) if said else now.year - 1 if match["last"] or month > now.month else now.year
        first = date(year, month, 1)
        return match[0], [(first, _first("month", -1, first))]
    if match := _YEAR.search(text):
        year = int(match[1] or match[2])
        return match[0], [(date(year, 1, 1), date(year + 1, 1, 1))]
    return None


def _one_day(words: str, year: int, month: int, day: int) -> _Days | None:
    found = _date(year, month, day)
    return None if found is None else (words, [(found, found + timedelta(days=1))])


def _date(year: int, month: int, day: int) -> date | None:
    with contextlib.suppress(ValueError):
        return date(year, month, day)
    return None


def _start(day: date, zone: tzinfo | None) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def with_time(query: MemoryQuery) -> MemoryQuery:
    """``query`` with the time that its text asks about, where days begin as they do on this machine."""
    asked = asked_time(query.text, datetime.fromtimestamp(query.now, UTC).astimezone())
    return replace(query, during=asked.during, time_words=asked.words, is_of_the_past=asked.is_of_the_past)
