"""The day that a sentence names.

Owns reading days in six languages, counted from when it was said; refuses to know what happens on it. Invariant: a day
that is not certain is none: a wrong date in a memory is worse than no date. Days are those of UTC.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, date, datetime, timedelta

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar jänner enero janvier", "february feb februar febrero février fevrier",
            "march mar märz maerz marzo mars", "april apr abril avril", "may mai mayo", "june jun juni junio juin",
            "july jul juli julio juillet", "august aug agosto août aout",
            "september sep sept septiembre septembre", "october oct oktober okt octubre octobre",
            "november nov noviembre novembre", "december dec dezember dez diciembre décembre decembre",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
DAYS = {
    name: number
    for number, names in enumerate(
        (
            "monday montag lunes lundi 星期一 周一 月曜", "tuesday dienstag martes mardi 星期二 周二 火曜",
            "wednesday mittwoch miércoles mercredi 星期三 周三 水曜", "thursday donnerstag jueves jeudi 星期四 周四 木曜",
            "friday freitag viernes vendredi 星期五 周五 金曜", "saturday samstag sonnabend sábado samedi 星期六 周六 土曜",
            "sunday sonntag domingo dimanche 星期日 星期天 周日 日曜",
        )
    )
    for name in names.split()
}  # fmt: skip
_RELATIVE = {
    "day after tomorrow": 2, "übermorgen": 2, "pasado mañana": 2, "après-demain": 2, "后天": 2, "後天": 2, "明後日": 2,
    "tomorrow": 1, "morgen": 1, "mañana": 1, "demain": 1, "明天": 1, "明日": 1,
    "day before yesterday": -2, "vorgestern": -2, "anteayer": -2, "avant-hier": -2, "前天": -2, "一昨日": -2,
    "yesterday": -1, "gestern": -1, "ayer": -1, "hier": -1, "昨天": -1, "昨日": -1,
    "today": 0, "tonight": 0, "heute": 0, "hoy": 0, "aujourd'hui": 0, "今天": 0, "今日": 0,
}  # fmt: skip

_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_ISO = re.compile(r"(?<!\d)(\d{4})-(\d{1,2})-(\d{1,2})(?!\d)")
_DOTTED = re.compile(r"(?<![\d.])(\d{1,2})\.(\d{1,2})\.(\d{4})?(?![\d])")
_MONTH_DAY = re.compile(rf"\b({_MONTH})\.? (\d{{1,2}})(?:st|nd|rd|th)?(?!\d|:)(?:,? (\d{{4}}))?", re.IGNORECASE)
_DAY_MONTH = re.compile(
    rf"(?<!\d)(\d{{1,2}})(?:st|nd|rd|th|er|\.)? (?:of |de )?({_MONTH})\b\.?(?:,? (?:de |del )?(\d{{4}}))?",
    re.IGNORECASE,
)
_UNSPACED = re.compile(r"(?:(\d{4})年)?(\d{1,2})月(\d{1,2})[日号號]")
_WEEKDAY = re.compile(
    rf"(?:\b(next|last|nächste[nrm]?|kommende[nrm]?|letzte[nrm]?|próximo|pasado) )?({'|'.join(DAYS)})(?: (próximo|pasado|prochain|dernier))?",
    re.IGNORECASE,
)
_RELATIVE_DAY = re.compile(
    "|".join(rf"\b{re.escape(name)}\b" if name.isascii() or (name[0].isalpha() and ord(name[0]) < 0x3000) else re.escape(name) for name in sorted(_RELATIVE, key=len, reverse=True)),
    re.IGNORECASE,
)  # fmt: skip
_PAST_WORDS = ("last", "letzte", "pasado", "dernier")
# "every Monday" is no day, and "good morning" is none in any language.
_RECURRING = re.compile(
    r"\b(?:every|each|on (?:mon|tues|wednes|thurs|fri|satur|sun)days|jede[nrs]?|cada|todos los|chaque|tous les|guten morgen|am morgen|morgens|buenos días|por la mañana|de la mañana)\b|每|毎|montags|dienstags|mittwochs|donnerstags|freitags",
    re.IGNORECASE,
)
_PAST = re.compile(
    r"\b(?:was|were|had|went|did|got|happened|started|finished|moved|met|bought|left|joined|visited|war|hatte|wurde|fue|era|tuve|estuve|était|avait|suis allée?|avons|ai eu)\b|了|した|ました",
    re.IGNORECASE,
)
_JUST_NOW = timedelta(days=31)
_UNTIL = re.compile(r"\b(?:until|till|through|expires?|bis|hasta|jusqu)\b|直到|截至|为止|まで", re.IGNORECASE)


def day_of(sentence: str, said_at: float) -> float | None:
    """When the day that ``sentence`` names begins, in seconds since 1970; ``None`` when it names none for certain."""
    said = datetime.fromtimestamp(said_at, UTC).date()
    found = _explicit(sentence, said) or (None if _RECURRING.search(sentence) else _relative(sentence, said))
    return None if found is None else datetime(found.year, found.month, found.day, tzinfo=UTC).timestamp()


def is_until(sentence: str) -> bool:
    """Whether the day that ``sentence`` names is the end of something."""
    return _UNTIL.search(sentence) is not None


def _explicit(sentence: str, said: date) -> date | None:
    if match := _ISO.search(sentence):
        return _date(int(match[1]), int(match[2]), int(match[3]))
    is_past = _PAST.search(sentence) is not None
    if match := _UNSPACED.search(sentence):
        return _near(match[1], int(match[2]), int(match[3]), said, is_past=is_past)
    if match := _DAY_MONTH.search(sentence):
        return _near(match[3], MONTHS[match[2].lower()], int(match[1]), said, is_past=is_past)
    if match := _MONTH_DAY.search(sentence):
        return _near(match[3], MONTHS[match[1].lower()], int(match[2]), said, is_past=is_past)
    if match := _DOTTED.search(sentence):
        return _near(match[3], int(match[2]), int(match[1]), said, is_past=is_past)
    return None


def _relative(sentence: str, said: date) -> date | None:
    if match := _RELATIVE_DAY.search(sentence):
        return said + timedelta(days=_RELATIVE[match[0].lower()])
    if match := _WEEKDAY.search(sentence):
        ahead = (DAYS[match[2].lower()] - said.weekday()) % 7 or 7
        is_past = (match[1] or match[3] or "").lower().startswith(_PAST_WORDS)
        return said + timedelta(days=ahead - 7 if is_past and ahead < 7 else -7 if is_past else ahead)
    return None


def _near(year: str | None, month: int, day: int, said: date, *, is_past: bool) -> date | None:
    """The day of that year; without one the last of the past, or the next, or one of a few weeks ago."""
    if year:
        return _date(int(year), month, day)
    near = [found for offset in (-1, 0, 1) if (found := _date(said.year + offset, month, day))]
    if is_past:
        return max((found for found in near if found <= said), default=None)
    return min((found for found in near if found >= said - _JUST_NOW), default=None)


def _date(year: int, month: int, day: int) -> date | None:
    with contextlib.suppress(ValueError):
        return date(year, month, day)
    return None
