"""How times are named, in the languages of the extraction rules.

Owns the words; refuses to know calendars. Invariant: a phrase stands for one span counted from a moment, and what may
be meant otherwise (a "may" that is no month) is left out.

Spans are of days, weeks (which begin on Mondays), months and years. ``Phrase.back`` is how many of them ago: 0 is the
one that runs, -1 the next. A group ``n`` in the pattern is a number, as figures or in words, and multiplies it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Span = Literal["day", "week", "weekend", "month", "year"]

NUMBERS = {
    word: number
    for number, words in enumerate(
        (
            "a one ein einem einer un une uno una 一 1",
            "two zwei deux dos 两 二 兩 couple", "three drei trois tres 三", "four vier quatre cuatro 四",
            "five fünf cinq cinco 五", "six sechs seis 六", "seven sieben sept siete 七", "eight acht huit ocho 八",
            "nine neun neuf nueve 九", "ten zehn dix diez 十",
        ),
        start=1,
    )
    for word in words.split()
}  # fmt: skip
_N = rf"(?P<n>\d{{1,3}}|{'|'.join(sorted(NUMBERS, key=len, reverse=True))})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """``is_until_now`` is for "in the last n weeks": from so many spans ago until now."""

    pattern: re.Pattern[str]
    span: Span
    back: int
    is_until_now: bool = False

    @property
    def is_spaced(self) -> bool:
        return self.pattern.pattern.startswith(_BEFORE)


# Between blanks, in any script but those without.
_BEFORE, _BEHIND = r"(?<!\w)", r"(?!\w)"


def _spaced(pattern: str, span: Span, back: int, *, is_until_now: bool = False) -> Phrase:
    compiled = re.compile(f"{_BEFORE}(?:{pattern}){_BEHIND}", re.IGNORECASE)
    return Phrase(pattern=compiled, span=span, back=back, is_until_now=is_until_now)


def _unspaced(pattern: str, span: Span, back: int, *, is_until_now: bool = False) -> Phrase:
    return Phrase(pattern=re.compile(pattern), span=span, back=back, is_until_now=is_until_now)


# Longer phrases before those that they hold.
PHRASES: tuple[Phrase, ...] = (
    # English
    _spaced(r"the day before yesterday", "day", 2),
    _spaced(r"the day after tomorrow", "day", -2),
    _spaced(r"yesterday(?: morning| afternoon| evening)?|last night", "day", 1),
    _spaced(r"today|this (?:morning|afternoon|evening)|tonight", "day", 0),
    _spaced(r"tomorrow", "day", -1),
    _spaced(rf"(?:{_N}|a couple of) days? ago", "day", 1),
    _spaced(rf"(?:{_N}|a couple of) weeks? ago", "week", 1),
    _spaced(rf"(?:{_N}|a couple of) months? ago", "month", 1),
    _spaced(rf"(?:{_N}|a couple of) years? ago", "year", 1),
    _spaced(r"the week before last", "week", 2),
    _spaced(rf"(?:in|over|during|within)? ?the (?:last|past) {_N} days", "day", 1, is_until_now=True),
    _spaced(rf"(?:in|over|during|within)? ?the (?:last|past) {_N} weeks", "week", 1, is_until_now=True),
    _spaced(rf"(?:in|over|during|within)? ?the (?:last|past) {_N} months", "month", 1, is_until_now=True),
    _spaced(rf"(?:in|over|during|within)? ?the (?:last|past) {_N} years", "year", 1, is_until_now=True),
    _spaced(r"(?:in |over )?the (?:last|past) few days|these days|the other day", "day", 5, is_until_now=True),
    _spaced(r"(?:in |over )?the (?:last|past) few weeks|recently|lately", "week", 4, is_until_now=True),
    _spaced(r"(?:last|past|previous) weekend", "weekend", 1),
    _spaced(r"(?:last|past|previous) week", "week", 1),
    _spaced(r"(?:last|past|previous) month", "month", 1),
    _spaced(r"(?:last|past|previous) year", "year", 1),
    _spaced(r"this week", "week", 0),
    _spaced(r"this month", "month", 0),
    _spaced(r"this year", "year", 0),
    _spaced(r"next weekend", "weekend", -1),
    _spaced(r"next week", "week", -1),
    _spaced(r"next month", "month", -1),
    _spaced(r"next year", "year", -1),
    # German
    _spaced(r"vorgestern", "day", 2),
    _spaced(r"übermorgen", "day", -2),
    _spaced(r"gestern(?: früh| morgen| abend| nachmittag)?", "day", 1),
    _spaced(r"heute(?: früh| morgen| abend| nachmittag)?", "day", 0),
    _spaced(rf"vor {_N} tag(?:en)?", "day", 1),
    _spaced(rf"vor {_N} wochen?", "week", 1),
    _spaced(rf"vor {_N} monat(?:en)?", "month", 1),
    _spaced(rf"vor {_N} jahr(?:en)?", "year", 1),
    _spaced(r"vorletzte[nr]? woche", "week", 2),
    _spaced(rf"in den (?:letzten|vergangenen) {_N} tagen", "day", 1, is_until_now=True),
    _spaced(rf"in den (?:letzten|vergangenen) {_N} wochen", "week", 1, is_until_now=True),
    _spaced(rf"in den (?:letzten|vergangenen) {_N} monaten", "month", 1, is_until_now=True),
    _spaced(r"in den (?:letzten|vergangenen) tagen|neulich|kürzlich", "day", 10, is_until_now=True),
    _spaced(r"in (?:der )?letzter? zeit|in den (?:letzten|vergangenen) wochen", "week", 4, is_until_now=True),
    _spaced(r"(?:am |das )?(?:letzte[sn]?|vergangene[sn]?) wochenende", "weekend", 1),
    _spaced(r"(?:in der )?(?:letzte[nr]?|vergangene[nr]?|vorige[nr]?) woche", "week", 1),
    _spaced(r"(?:im )?(?:letzte[nrm]?|vergangene[nrm]?|vorige[nrm]?) monat", "month", 1),
    _spaced(r"(?:im )?(?:letzte[nsm]?|vergangene[nsm]?|vorige[nsm]?) jahr", "year", 1),
    _spaced(r"diese[r]? woche", "week", 0),
    _spaced(r"diese[nm]? monat", "month", 0),
    _spaced(r"diese[sm]? jahr", "year", 0),
    _spaced(r"nächste[nr]? woche|kommende[nr]? woche", "week", -1),
    _spaced(r"nächste[nm]? monat|kommende[nm]? monat", "month", -1),
    _spaced(r"nächste[sm]? jahr|kommende[sm]? jahr", "year", -1),
    # French
    _spaced(r"avant-hier", "day", 2),
    _spaced(r"après-demain", "day", -2),
    _spaced(r"hier(?: matin| soir| après-midi)?", "day", 1),
    _spaced(r"aujourd['’]hui|ce (?:matin|soir)|cet après-midi", "day", 0),
    _spaced(r"demain", "day", -1),
    _spaced(rf"il y a {_N} jours?", "day", 1),
    _spaced(rf"il y a {_N} semaines?", "week", 1),
    _spaced(rf"il y a {_N} mois", "month", 1),
    _spaced(rf"il y a {_N} ans?", "year", 1),
    _spaced(rf"(?:ces|les|au cours des|dans les) {_N} derniers jours", "day", 1, is_until_now=True),
    _spaced(rf"(?:ces|les|au cours des|dans les) {_N} dernières semaines", "week", 1, is_until_now=True),
    _spaced(rf"(?:ces|les|au cours des|dans les) {_N} derniers mois", "month", 1, is_until_now=True),
    _spaced(r"(?:ces|les) derniers jours|l['’]autre jour", "day", 7, is_until_now=True),
    _spaced(r"(?:ces|les) dernières semaines|récemment|dernièrement", "week", 4, is_until_now=True),
    _spaced(r"le week-?end dernier", "weekend", 1),
    _spaced(r"la semaine (?:dernière|passée)", "week", 1),
    _spaced(r"le mois (?:dernier|passé)", "month", 1),
    _spaced(r"l['’](?:année dernière|année passée|an dernier|an passé)", "year", 1),
    _spaced(r"cette semaine", "week", 0),
    _spaced(r"ce mois(?:-ci)?", "month", 0),
    _spaced(r"cette année", "year", 0),
    _spaced(r"la semaine prochaine", "week", -1),
    _spaced(r"le mois prochain", "month", -1),
    _spaced(r"l['’](?:année prochaine|an prochain)", "year", -1),
    # Spanish
    _spaced(r"anteayer|antier|antes de ayer", "day", 2),
    _spaced(r"pasado mañana", "day", -2),
    _spaced(r"ayer(?: por la (?:mañana|tarde|noche))?|anoche", "day", 1),
    _spaced(r"hoy|esta (?:mañana|tarde|noche)", "day", 0),
    _spaced(rf"hace {_N} días?", "day", 1),
    _spaced(rf"hace {_N} semanas?", "week", 1),
    _spaced(rf"hace {_N} mes(?:es)?", "month", 1),
    _spaced(rf"hace {_N} años?", "year", 1),
    _spaced(rf"en los últimos {_N} días", "day", 1, is_until_now=True),
    _spaced(rf"en las últimas {_N} semanas", "week", 1, is_until_now=True),
    _spaced(rf"en los últimos {_N} meses", "month", 1, is_until_now=True),
    _spaced(r"(?:en )?estos días|(?:en )?los últimos días|el otro día", "day", 7, is_until_now=True),
    _spaced(r"(?:en )?las últimas semanas|recientemente|últimamente", "week", 4, is_until_now=True),
    _spaced(r"el fin de semana pasado|el pasado fin de semana", "weekend", 1),
    _spaced(r"la semana pasada|la pasada semana", "week", 1),
    _spaced(r"el mes pasado|el pasado mes", "month", 1),
    _spaced(r"el año pasado|el pasado año", "year", 1),
    _spaced(r"esta semana", "week", 0),
    _spaced(r"este mes", "month", 0),
    _spaced(r"este año", "year", 0),
    _spaced(r"la (?:próxima semana|semana que viene|semana próxima)", "week", -1),
    _spaced(r"el (?:próximo mes|mes que viene|mes próximo)", "month", -1),
    _spaced(r"el (?:próximo año|año que viene|año próximo)", "year", -1),
    # Chinese and Japanese
    _unspaced(r"前天|一昨日|おととい", "day", 2),
    _unspaced(r"后天|後天|明後日|あさって", "day", -2),
    _unspaced(r"昨[天晚日夜]|きのう|昨晩", "day", 1),
    _unspaced(r"今[天早晚日朝]|今夜|きょう|今晩", "day", 0),
    _unspaced(r"明[天日]|あした", "day", -1),
    _unspaced(rf"{_N}[天日](?:以?前)", "day", 1),
    _unspaced(rf"{_N}(?:个|個)?(?:周|週間?|星期|礼拜|禮拜)(?:以?前)", "week", 1),
    _unspaced(rf"{_N}(?:个月|個月|か月|ヶ月|カ月|ヵ月)(?:以?前)", "month", 1),
    _unspaced(rf"{_N}年(?:以?前)", "year", 1),
    _unspaced(rf"(?:最近|过去|過去|この){_N}[天日]間?", "day", 1, is_until_now=True),
    _unspaced(rf"(?:最近|过去|過去|この){_N}(?:个|個)?(?:周|週間|星期)", "week", 1, is_until_now=True),
    _unspaced(r"前几天|前幾天|这几天|這幾天|先日|この前|この間|ここ数日", "day", 10, is_until_now=True),
    _unspaced(r"最近|近来|近來|この頃", "week", 4, is_until_now=True),
    _unspaced(r"上上(?:周|週|个?星期)|先々週", "week", 2),
    _unspaced(r"上(?:个)?周末|上週末|先週末", "weekend", 1),
    _unspaced(r"(?:上(?:个|個)?(?:周|週|星期|礼拜|禮拜)|先週)(?![一二三四五六日天])", "week", 1),
    _unspaced(r"上(?:个|個)?月|先月", "month", 1),
    _unspaced(r"去年|昨年", "year", 1),
    _unspaced(r"(?:这|這|本)(?:个|個)?(?:周|週|星期)|今週", "week", 0),
    _unspaced(r"(?:这|這|本)(?:个|個)?月|今月", "month", 0),
    _unspaced(r"今年", "year", 0),
    _unspaced(r"下(?:个|個)?(?:周|週|星期|礼拜|禮拜)(?![一二三四五六日天])|来週|來週", "week", -1),
    _unspaced(r"下(?:个|個)?月|来月", "month", -1),
    _unspaced(r"明年|来年", "year", -1),
)

_SPACED = [one.pattern.pattern.removeprefix(_BEFORE).removesuffix(_BEHIND) for one in PHRASES if one.is_spaced]
_UNSPACED = [one.pattern.pattern for one in PHRASES if not one.is_spaced]
# A message nearly always names no time, and one pass over it says so; without regard to case it would take longer.
_ANY_SPACED = re.compile(f"{_BEFORE}(?:{'|'.join(_SPACED)}){_BEHIND}".replace("(?P<n>", "(?:"))
_ANY = re.compile("|".join([_ANY_SPACED.pattern, *_UNSPACED]).replace("(?P<n>", "(?:"))


def may_name_a_time(text: str) -> bool:
    """Whether one of the phrases is in ``text``."""
    any_phrase = _ANY_SPACED if text.isascii() else _ANY
    return any_phrase.search(text.lower()) is not None


# That a question is about what was before, whenever that was.
FORMERLY = re.compile(
    r"(?<!\w)(?:"
    r"before(?=\W*$| (?:that|then|now|this)\b)|previous(?:ly)?|former(?:ly)?|used to|in the past|back then|originally"
    r"|(?:my|our|his|her|their) (?:old|ex)(?=[ -]\w)"
    r"|früher\w*|vorher|zuvor|ehemalig\w*|damals|einst|vorherig\w*|bisherig\w*|(?:mein|unser)\w{0,2} alte[nrsm]?"
    r"|avant(?=\W*$| (?:ça|cela)\b)|auparavant|autrefois|ancien(?:ne)?s?|précédent\w*|à l['’]époque"
    r"|antes(?! de\b| del\b| que\b)|anterior(?:es|mente)?|antigu[oa]s?|previamente|solía\w*|en aquel entonces"
    r")(?!\w)|以前|之前|从前|從前|过去的|過去|曾经|曾經|原来的|原先|旧的|舊的|前は|昔|かつて|元の|前の(?!日)|旧",
    re.IGNORECASE,
)
