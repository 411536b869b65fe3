"""Which units have the words of a question.

Owns the order and the score by words; refuses to know meanings. Invariants: what may not be found is no candidate, for
the condition of ``visibility`` is in the query; and the rarest words are looked for in the whole store.

The order is BM25's (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", section 3), over words of
ours and, with less weight, what is weaker than a word. The score is the share of the question's rare words that a unit
has, where a few of them are all that a long question needs; what is weaker than a word adds nothing to it.
"""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from metaclaw.memory.candidates import candidates
from metaclaw.memory.query import Candidate, Fitting, MemoryQuery
from metaclaw.memory.word_index import binding_words, marks_of, parts_of
from metaclaw.retrieval.words import spaced_words_of, words_of

_MAX_WORDS = 48  # of a question: the rarest
_FEW_WORDS = 16  # a longer question tells by its words alone what it wants
MAX_MATCHES = 2000  # units that are looked at: beyond that, frequent words tell nothing apart
_MIN_UNITS = 1000  # a small store says nothing of how rare a word is: it is taken for a part of a larger one
_ENOUGH = 4.0  # of the rarest words: whoever writes a page asks no more than who writes a line
_HALF_LIFE_S = 180 * 86_400.0  # of what is never used
_FADED = 0.7  # what is left of a score in the end
_SATURATION, _LENGTH_SHARE = 1.2, 0.75  # the usual constants of BM25
_OF_A_PART, _OF_A_BINDING_WORD, _OF_A_MARK = 0.3, 0.5, 1.0


class Words(Protocol):
    """Which units have a word: of an agent, in a store."""

    connection: sqlite3.Connection

    def num_units(self, agent: str) -> int: ...
    def nums_having(self, agent: str, words: Iterable[str]) -> Mapping[str, int]: ...
    def rows_having(self, agent: str, word: str) -> list[int]: ...
    def words_of(self, agent: str, rows: Sequence[int]) -> dict[int, list[str]]: ...


class _Word(NamedTuple):
    """``weight`` is what it counts in the order. ``whole`` is the word that it is a part of."""

    text: str
    rarity: float
    num_units: int
    is_needed: bool = False
    is_weaker: bool = False
    weight: float = 1.0
    whole: str = ""


def asks_for_words(query: MemoryQuery) -> bool:
    """Whether there is a word to look for, beside those of a time."""
    return bool(set(words_of(query.text)) - set(words_of(query.time_words)))


def found_by_words(index: Words, query: MemoryQuery, *, pool: int, max_matches: int) -> list[Fitting]:
    """At most ``pool`` units, in no order.

    About ``max_matches`` of them are looked at: those with the rarest of the question's words.
    """
    asked = _asked(index, query)
    chosen = _looked_for(asked, max_matches)
    if not chosen:
        return []
    needed = [word for word in asked if word.is_needed] or [word for word in asked if not word.is_weaker]
    # A word that no unit has counts in full: were it left out, a name alone would find something for every message.
    enough = min(sum(word.rarity for word in needed), _ENOUGH * max((word.rarity for word in needed), default=0.0))
    found = candidates(index.connection, query, _best_rows(index, query.agent, chosen), limit=pool)
    have = index.words_of(query.agent, [one.row for one in found])
    return _scored(found, have, asked, enough, query.now)


def freshness_of(one: Candidate, now: float) -> float:
    """What is left of a unit's worth, the longer nobody needed it."""
    unused_s = max(0.0, now - max(one.last_used_at or 0.0, one.said_at))
    return _FADED + (1 - _FADED) * math.exp2(-unused_s / (_HALF_LIFE_S * (1 + one.num_uses)))


def _asked(index: Words, query: MemoryQuery) -> list[_Word]:
    """What the question has, words first, the rarest first."""
    num_units = index.num_units(query.agent)
    words = list(dict.fromkeys(words_of(query.text)))
    weaker = list(dict.fromkeys(_weaker(query.text))) if len(words) <= _FEW_WORDS else []
    having = index.nums_having(query.agent, [*words, *(text for text, _, _ in weaker)])

    def counted(text: str, weight: float = 1.0, whole: str = "", *, is_weaker: bool = False) -> _Word:
        number = having[text]
        total = num_units if is_weaker and not whole else max(num_units, _MIN_UNITS)
        rarity = math.log(1 + max(0, total - number + 0.5) / (number + 0.5))
        is_needed = not is_weaker and text not in of_time
        return _Word(
            text=text, rarity=rarity, num_units=number, is_needed=is_needed, is_weaker=is_weaker, weight=weight,
            whole=whole,
        )  # fmt: skip

    of_time = set(words_of(query.time_words))
    asked = [*map(counted, words), *(counted(*one, is_weaker=True) for one in weaker)]
    return sorted(asked, key=lambda word: (word.is_weaker, word.num_units))


def _weaker(text: str) -> Iterator[tuple[str, float, str]]:
    """What is weaker than a word, with its weight and the word that it is a part of."""
    for word in spaced_words_of(text):
        if parts := parts_of(word):
            whole = "".join(words_of(word))
            yield from ((part, _OF_A_PART, whole) for part in parts)
    yield from ((word, _OF_A_BINDING_WORD, "") for word in binding_words(text))
    yield from ((mark, _OF_A_MARK, "") for mark in marks_of(text))


def _looked_for(asked: Sequence[_Word], max_matches: int) -> list[_Word]:
    """The first of ``asked``, as many as find what can be looked at."""
    chosen: list[_Word] = []
    num_matches = 0
    for word in (word for word in asked if word.num_units):
        num_matches += word.num_units
        if len(chosen) == _MAX_WORDS or (chosen and num_matches > max_matches):
            break
        chosen.append(word)
    return chosen


def _best_rows(index: Words, agent: str, words: Sequence[_Word]) -> Iterator[int]:
    """The rows that have one of ``words``, those with the rarest first, of equal ones the newest."""
    # Thousands of rows are worth one of some dozens of sums: the rows of each are a set, and of those only the first
    # that are wanted are sorted.
    by_worth: dict[float, set[int]] = {}
    for word in words:
        new, gain = set(index.rows_having(agent, word.text)), word.weight * word.rarity
        grown: dict[float, set[int]] = defaultdict(set)
        for worth, rows in by_worth.items():
            if both := rows & new:
                grown[worth + gain] |= both
                rows -= both
                new -= both
        grown[gain] |= new
        for worth, rows in grown.items():
            by_worth[worth] = by_worth.get(worth, set()) | rows
    for worth in sorted(by_worth, reverse=True):
        yield from sorted(by_worth[worth], reverse=True)


def _scored(
    found: Sequence[Candidate], have: Mapping[int, Sequence[str]], asked: Sequence[_Word], enough: float, now: float
) -> list[Fitting]:
    known = [word for word in asked if word.num_units]
    places = {word.text: place for place, word in enumerate(known)}
    wanted = places.keys() | {word.whole for word in known}
    mean = sum(map(len, have.values())) / max(1, len(have))
    scored: list[Fitting] = []
    for one in found:
        words = have[one.row]
        had = wanted.intersection(words)
        norm = _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * len(words) / mean)
        rarities = rank = 0.0
        for place in sorted([places[text] for text in had if text in places]):
            word = known[place]
            if not word.is_weaker:
                rarities += word.rarity
            if word.whole not in had:  # a part says nothing more where the whole word is
                number = words.count(word.text)
                rank += word.weight * word.rarity * number * (_SATURATION + 1) / (number + norm)
        share = min(1.0, rarities / enough) if enough else 0.0
        freshness = freshness_of(one, now)
        parts = {"words": share, "bm25": rank, "freshness": freshness, "confidence": one.confidence}
        scored.append(Fitting(candidate=one, score=share * freshness * one.confidence, parts=parts))
    return scored
