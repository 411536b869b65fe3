"""Which units have the words of a question.

Owns the order and the score by words; refuses to know meanings. Invariants: what may not be found is no candidate, for
the condition of ``visibility`` is in the query; and the rarest words are looked for in the whole store.

The order is BM25's (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", section 3), over words of
ours. The score is the share of the question's rare words that a unit has, where a few of them are all that a long
question needs.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from metaclaw.memory.negations import num_negations
from metaclaw.memory.query import Found, MemoryQuery
from metaclaw.memory.rows import COLUMNS, owner_word, unit_of
from metaclaw.memory.units import DENIED, MemoryUnit, index_words
from metaclaw.memory.visibility import visible
from metaclaw.retrieval.words import words_of

_MAX_WORDS = 48  # of a question: the rarest
MAX_MATCHES = 2000  # units that are scored: beyond that, frequent words tell nothing apart
_MIN_UNITS = 1000  # a small store says nothing of how rare a word is: it is taken for a part of a larger one
_ENOUGH = 4.0  # of the rarest words: whoever writes a page asks no more than who writes a line
_HALF_LIFE_S = 180 * 86_400.0  # of what is never used
_FADED = 0.7  # what is left of a score in the end
_NUMBER_OF_UNITS = "SELECT doc FROM vocabulary WHERE term = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    text: str
    rarity: float
    num_units: int
    is_needed: bool


def asks_for_words(query: MemoryQuery) -> bool:
    """Whether there is a word to look for, beside those of a time."""
    return bool(set(words_of(query.text)) - set(words_of(query.time_words)))


def found_by_words(connection: sqlite3.Connection, query: MemoryQuery, *, pool: int, max_matches: int) -> list[Found]:
    """At most ``pool`` units, in no order.

    About ``max_matches`` of them are scored: those with the rarest of the question's words.
    """
    known, words = _weighed(connection, query, max_matches)
    if not words:
        return []
    needed = [word for word in known if word.is_needed] or known
    # A word that no unit has counts in full: were it left out, a name alone would find something for every message.
    enough = min(sum(word.rarity for word in needed), _ENOUGH * max(word.rarity for word in needed))
    return [_scored(row, words, enough, query.now) for row in _candidates(connection, words, query, pool)]


def freshness_of(unit: MemoryUnit, num_uses: int, last_used_at: float | None, now: float) -> float:
    """What is left of a unit's worth, the longer nobody needed it."""
    unused_s = max(0.0, now - max(last_used_at or 0.0, unit.said_at))
    return _FADED + (1 - _FADED) * math.exp2(-unused_s / (_HALF_LIFE_S * (1 + num_uses)))


def _candidates(
    connection: sqlite3.Connection, words: Sequence[_Word], query: MemoryQuery, pool: int
) -> list[tuple[MemoryUnit, float, int, float | None]]:
    match = f"owner : {owner_word(query.agent)} AND body : ({' OR '.join(_quoted(word.text) for word in words)})"
    condition, values = visible(query)
    rows = connection.execute(
        f"SELECT {COLUMNS}, bm25(words, 0.0, 1.0) AS rank, coalesce(uses.number, 0), uses.last_at"
        " FROM words JOIN units ON units.seq = words.rowid LEFT JOIN uses ON uses.unit = units.id"
        f" WHERE words MATCH ? AND {condition} ORDER BY rank, units.seq DESC LIMIT ?",
        (match, *values, pool),
    ).fetchall()
    return [(unit_of(row[:-3]), -row[-3], row[-2], row[-1]) for row in rows]


def _scored(
    row: tuple[MemoryUnit, float, int, float | None], words: Sequence[_Word], needed: float, now: float
) -> Found:
    unit, rank, number, last_at = row
    have = set(index_words(f"{unit.text} {unit.subject}").split())
    share = min(1.0, sum(word.rarity for word in words if word.text in have) / needed)
    freshness = freshness_of(unit, number, last_at, now)
    parts = {"words": share, "bm25": rank, "freshness": freshness, "confidence": unit.confidence}
    return Found(unit=unit, score=share * freshness * unit.confidence, parts=parts)


def _weighed(connection: sqlite3.Connection, query: MemoryQuery, max_matches: int) -> tuple[list[_Word], list[_Word]]:
    """The words that are asked for, and those of them to look for: the rarest, as many as find what can be scored."""
    (num_units,) = connection.execute("SELECT count(*) FROM units").fetchone()
    words = sorted(_counted(connection, query, max(num_units, _MIN_UNITS)), key=lambda word: word.num_units)
    chosen: list[_Word] = []
    num_matches = 0
    for word in (word for word in words if word.num_units):
        num_matches += word.num_units
        if len(chosen) == _MAX_WORDS or (chosen and num_matches > max_matches):
            break
        chosen.append(word)
    return words, chosen


def _counted(connection: sqlite3.Connection, query: MemoryQuery, num_units: int) -> list[_Word]:
    counted: list[_Word] = []
    of_time = set(words_of(query.time_words))
    for word in dict.fromkeys(words_of(query.text)):
        row = connection.execute(_NUMBER_OF_UNITS, (word,)).fetchone()
        number = row[0] if row else 0
        rarity = math.log(1 + (num_units - number + 0.5) / (number + 0.5))
        counted.append(_Word(text=word, rarity=rarity, num_units=number, is_needed=word not in of_time))
    if num_negations(query.text) and (row := connection.execute(_NUMBER_OF_UNITS, (DENIED,)).fetchone()):
        # It helps to order what fits; by itself it fits nothing.
        counted.append(_Word(text=DENIED, rarity=0.0, num_units=row[0], is_needed=False))
    return counted


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'
