"""Which units fit a question.

Owns joining what fits by words with what fits by meaning, and the order; refuses to know how either is found.
Invariant: whoever finds units asks with the condition of ``visibility``; and the whole store is within reach, however
old a unit is.

The score, to which thresholds are, is on a scale that does not depend on the store: what a unit has of the question's
words, or how near it is in meaning, whichever is more. The order is that of the words, or, with meanings, that of both
by their scores; what is of another time than was asked for comes after what is of that time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace

from metaclaw.memory.by_words import MAX_MATCHES, Words, asks_for_words, found_by_words, freshness_of
from metaclaw.memory.candidates import newest_candidates
from metaclaw.memory.query import ByMeaning, Fitting, Found, MemoryQuery, Near
from metaclaw.memory.rows import read_units
from metaclaw.memory.visibility import holds
from metaclaw.retrieval.blending import Ranking, blend

_POOL = 4  # times the limit: from what the order is made
# What both say of a unit. Of 0.3, 0.5 and 0.7 for the meaning the least was best with a good embedder and with a poor
# one, on the conversations that benchmarks/README.md calls "first".
_OF_WORDS, _OF_MEANING = 0.7, 0.3
_ANOTHER_TIME = 0.6  # what is left of a place when a time was asked for, and it is another
SCORE_OF_LIKE = 0.4  # of what is just like enough, as of what has just words enough


def search(
    index: Words,
    query: MemoryQuery,
    meaning: ByMeaning | None = None,
    *,
    max_matches: int = MAX_MATCHES,
) -> list[Found]:
    """What fits, best first, at most ``query.limit``."""
    if query.limit < 1:
        return []
    if query.during and not asks_for_words(query):
        return _finished(index.connection, query, _of_the_time(index.connection, query))
    pool = _POOL * query.limit
    found = _found(index, query, meaning, pool, max_matches)
    if query.during:  # what is of that time is reached however much is of others
        wanted = _found(index, replace(query, only_during=True), meaning, pool, max_matches)
        ids = {one.candidate.id for one in wanted}
        found = [*(one for one in found if one.candidate.id not in ids), *map(_of_that_time, wanted)]
    return _finished(index.connection, query, found)


def _found(index: Words, query: MemoryQuery, meaning: ByMeaning | None, pool: int, max_matches: int) -> list[Fitting]:
    by_words = found_by_words(index, query, pool=pool, max_matches=max_matches)
    near = [] if meaning is None else meaning.near(index.connection, query, limit=pool)
    if meaning is None or not near:
        return by_words
    return _fused(by_words, [_liked(one, meaning.min_likeness, query.now) for one in near])


def _finished(connection: sqlite3.Connection, query: MemoryQuery, found: Iterable[Fitting]) -> list[Found]:
    best = sorted(
        (one for one in found if one.score >= query.min_score), key=lambda one: (-_order(one, query), one.candidate.id)
    )
    chosen = best[: query.limit]
    units = read_units(connection, (one.candidate.id for one in chosen))
    return [Found(unit=units[one.candidate.id], score=one.score, parts=one.parts) for one in chosen]


def _liked(near: Near, min_likeness: float, now: float) -> Fitting:
    freshness = freshness_of(near.candidate, now)
    if near.likeness >= min_likeness:
        above = (near.likeness - min_likeness) / max(1e-6, 1 - min_likeness)
        score = SCORE_OF_LIKE + (1 - SCORE_OF_LIKE) * min(1.0, above)
    else:
        score = SCORE_OF_LIKE * max(0.0, near.likeness) / max(1e-6, min_likeness)
    parts = {"likeness": near.likeness, "freshness": freshness, "confidence": near.candidate.confidence}
    return Fitting(candidate=near.candidate, score=score, parts=parts)


def _fused(by_words: Sequence[Fitting], by_meaning: Sequence[Fitting]) -> list[Fitting]:
    candidates = {one.candidate.id: one.candidate for one in (*by_words, *by_meaning)}
    scores: dict[str, float] = {}
    parts: dict[str, dict[str, float]] = {}
    for one in (*by_words, *by_meaning):
        key = one.candidate.id
        scores[key] = max(one.score, scores.get(key, 0.0))
        parts[key] = {**parts.get(key, {}), **one.parts}
    words = [(one.candidate.id, _worth(one, "bm25")) for one in by_words]
    meanings = [(one.candidate.id, _worth(one, "likeness", least=-1.0)) for one in by_meaning]
    both = blend([Ranking(scores=words, weight=_OF_WORDS), Ranking(scores=meanings, weight=_OF_MEANING)])
    return [
        Fitting(candidate=one, score=scores[key], parts=parts[key] | {"fused": both[key]})
        for key, one in candidates.items()
    ]


def _of_the_time(connection: sqlite3.Connection, query: MemoryQuery) -> list[Fitting]:
    """The newest of what was said or true in the time that is asked for, when nothing else is."""
    newest = newest_candidates(connection, replace(query, only_during=True), limit=query.limit)
    return [
        Fitting(candidate=one, score=one.confidence, parts={"time": 1.0 / (1 + place), "confidence": one.confidence})
        for place, one in enumerate(newest)
    ]


def _worth(found: Fitting, part: str, *, least: float = 0.0) -> float:
    return (found.parts[part] - least) * found.parts["freshness"] * found.parts["confidence"]


def _of_that_time(found: Fitting) -> Fitting:
    return replace(found, parts={**found.parts, "of_that_time": 1.0})


def _order(found: Fitting, query: MemoryQuery) -> float:
    parts = found.parts
    order = parts.get("time") or parts.get("fused") or _worth(found, "bm25" if "bm25" in parts else "likeness")
    is_wanted = not query.during or "of_that_time" in parts or "time" in parts
    if query.is_of_the_past and holds(found.candidate, query.now):
        is_wanted = False
    return order if is_wanted else _ANOTHER_TIME * order
