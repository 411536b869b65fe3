"""Whether a proposed skill says what another one says already.

Owns the likeness of two skills by their words, in any script; refuses to know where the others are kept. Invariant: it
is symmetric, 1 for the same text and 0 for texts without a common word.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from metaclaw.skills.ranking import words_of
from metaclaw.skills.skill import Skill

# Of the 46 starter skills no two are more alike than 0.39; one of them in other words was 0.59 like itself.
TOO_ALIKE = 0.55
_HEADLINE, _BODY = 0.6, 0.4


def nearest(skill: Skill, others: Iterable[Skill]) -> tuple[Skill, float] | None:
    """The one of ``others`` that is most like ``skill``, and how much; ``None`` when there is none."""
    found = [(other, likeness(skill, other)) for other in others]
    return max(found, key=lambda pair: pair[1], default=None)


def likeness(one: Skill, other: Skill) -> float:
    """From 0 to 1: what they are for weighs more than how they say it."""
    headline = _cosine(_words(f"{one.name} {one.description}"), _words(f"{other.name} {other.description}"))
    body = _cosine(_words(one.body), _words(other.body))
    return max(_HEADLINE * headline + _BODY * body, body if body > 0.9 else 0.0)


def _words(text: str) -> Mapping[str, float]:
    return {word: 1 + math.log(count) for word, count in Counter(words_of(text)).items()}


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    product = sum(weight * other[word] for word, weight in one.items() if word in other)
    lengths = math.sqrt(sum(w * w for w in one.values()) * sum(w * w for w in other.values()))
    return product / lengths if lengths else 0.0
