"""Which units fit a question.

Owns the ranking and what may be found by whom; refuses to know how vectors are made. Invariants: scope, trust and
validity are conditions of the query itself, so what may not be found is never even a candidate; and the whole store is
within reach, however old a unit is.

The order is BM25's (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", section 3), over words of
ours. The score, to which thresholds are, is on a scale that does not depend on the store: the share of the question's
rare words that a unit has, where a few rare words are all that a long question needs.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from metaclaw.memory.query import Found, MemoryQuery
from metaclaw.memory.rows import COLUMNS, owner_word, unit_of, with_turns
from metaclaw.memory.units import MemoryUnit, index_words
from metaclaw.retrieval.words import words_of

_MAX_WORDS = 48  # of a question: the rarest
MAX_MATCHES = 3000  # units that are scored: beyond that, frequent words tell nothing apart
_MIN_UNITS = 1000  # a small store says nothing of how rare a word is: it is taken for a part of a larger one
_ENOUGH = 4.0  # of the rarest words: whoever writes a page asks no more than who writes a line
_POOL = 4  # times the limit: from what the order is made
_HALF_LIFE_S = 180 * 86_400.0  # of what is never used
_FADED = 0.7  # what is left of a score in the end


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    text: str
    rarity: float
    num_units: int


def search(connection: sqlite3.Connection, query: MemoryQuery, *, max_matches: int = MAX_MATCHES) -> list[Found]:
    """What fits, best first, at most ``query.limit``.

    About ``max_matches`` units are scored: those with the rarest of the question's words.
    """
    known, words = _weighed(connection, query.text, max_matches)
    if not words or query.limit < 1:
        return []
    needed = min(sum(word.rarity for word in known), _ENOUGH * max(word.rarity for word in known))
    found = [_scored(row, words, needed, query.now) for row in _candidates(connection, words, query)]
    best = sorted((one for one in found if one.score >= query.min_score), key=lambda one: (-_order(one), one.unit.id))
    chosen = best[: query.limit]
    units = with_turns(connection, (one.unit for one in chosen))
    return [Found(unit=unit, score=one.score, parts=one.parts) for unit, one in zip(units, chosen, strict=True)]


def visible(query: MemoryQuery) -> tuple[str, list[object]]:
    """The condition on ``units`` for what may be found, and its values."""
    conditions, values = ["units.agent = ?"], list[object]([query.agent])
    if not query.is_everything:
        conditions.append(
            "(units.scope = 'agent' OR (units.scope = 'user' AND units.user = ?)"
            " OR (units.scope = 'workspace' AND units.workspace = ?)"
            " OR (units.scope = 'session' AND units.session = ?))"
        )
        values += [query.user, query.workspace, query.session]
    conditions.append("units.trust >= ?")
    values.append(query.min_trust)
    if not query.with_history:
        conditions.append("units.superseded_by IS NULL AND (units.true_until IS NULL OR units.true_until > ?)")
        values.append(query.now)
    if query.kinds:
        conditions.append(f"units.kind IN ({', '.join('?' * len(query.kinds))})")
        values += query.kinds
    return " AND ".join(conditions), values


def _candidates(
    connection: sqlite3.Connection, words: Sequence[_Word], query: MemoryQuery
) -> list[tuple[MemoryUnit, float, int, float | None]]:
    condition, values = visible(query)
    match = f"owner : {owner_word(query.agent)} AND body : ({' OR '.join(_quoted(word.text) for word in words)})"
    rows = connection.execute(
        f"SELECT {COLUMNS}, bm25(words, 0.0, 1.0) AS rank, coalesce(uses.number, 0), uses.last_at"
        " FROM words JOIN units ON units.seq = words.rowid LEFT JOIN uses ON uses.unit = units.id"
        f" WHERE words MATCH ? AND {condition} ORDER BY rank, units.seq DESC LIMIT ?",
        (match, *values, _POOL * query.limit),
    ).fetchall()
    return [(unit_of(row[:-3]), -row[-3], row[-2], row[-1]) for row in rows]


def _scored(
    row: tuple[MemoryUnit, float, int, float | None], words: Sequence[_Word], needed: float, now: float
) -> Found:
    unit, rank, number, last_at = row
    have = set(index_words(f"{unit.text} {unit.subject}").split())
    share = min(1.0, sum(word.rarity for word in words if word.text in have) / needed)
    unused_s = max(0.0, now - max(last_at or 0.0, unit.said_at))
    freshness = _FADED + (1 - _FADED) * math.exp2(-unused_s / (_HALF_LIFE_S * (1 + number)))
    parts = {"words": share, "bm25": rank, "freshness": freshness, "confidence": unit.confidence}
    return Found(unit=unit, score=share * freshness * unit.confidence, parts=parts)


def _order(found: Found) -> float:
    return found.parts["bm25"] * found.parts["freshness"] * found.parts["confidence"]


def _weighed(connection: sqlite3.Connection, text: str, max_matches: int) -> tuple[list[_Word], list[_Word]]:
    """The words of ``text``, and those of them to look for: the rarest, as many as find what can be scored."""
    (num_units,) = connection.execute("SELECT count(*) FROM units").fetchone()
    words = sorted(_counted(connection, text, max(num_units, _MIN_UNITS)), key=lambda word: word.num_units)
    chosen: list[_Word] = []
    num_matches = 0
    for word in (word for word in words if word.num_units):
        num_matches += word.num_units
        if len(chosen) == _MAX_WORDS or (chosen and num_matches > max_matches):
            break
        chosen.append(word)
    return words, chosen


def _counted(connection: sqlite3.Connection, text: str, num_units: int) -> list[_Word]:
    counted: list[_Word] = []
    for word in dict.fromkeys(words_of(text)):
        row = connection.execute("SELECT doc FROM vocabulary WHERE term = ?", (word,)).fetchone()
        number = row[0] if row else 0
        rarity = math.log(1 + (num_units - number + 0.5) / (number + 0.5))
        counted.append(_Word(text=word, rarity=rarity, num_units=number))
    return counted


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'
