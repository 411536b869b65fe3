"""Which skills fit a text: lexical ranking.

Owns words, weights and the threshold; refuses to know files and budgets. Invariant: no skill is returned rather
than a poor one, and equal input gives equal order.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from metaclaw.skills.skill import Skill

_WORD = re.compile(r"[^\W_]+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a about above after again all also am an and any are as at be because been before being below between "
        "both but by can could did do does doing done down during each few for from further get give go had has "
        "have having he her here him his how i if in into is it its just know let like make me more most my need "
        "no nor not now of off on once only or other our out over own please same she should so some such tell "
        "than thank that the their them then there these they this those through to too under until up us use "
        "used user using very want was way we were what when where which while who why will with would you your"
    )
)
# A word in the name says more about a skill than one in its body. BM25's usual constants.
_NAME_WEIGHT, _DESCRIPTION_WEIGHT, _BODY_WEIGHT = 3.0, 2.0, 0.25
_SATURATION, _LENGTH_SHARE = 1.2, 0.75
_MIN_SHARED_WORDS = 2  # of name and description; one shared word is a coincidence
_MIN_SHARE_OF_BEST = 0.4


@dataclass(frozen=True, slots=True)
class _Entry:
    skill: Skill
    weights: dict[str, float]
    named: frozenset[str]
    headline: frozenset[str]
    length: float


class SkillRanking:
    """An index over some skills."""

    def __init__(self, skills: Sequence[Skill]) -> None:
        self._entries = [_entry(skill) for skill in sorted(skills, key=lambda skill: skill.name)]
        self._holders: dict[str, list[int]] = defaultdict(list)
        for index, entry in enumerate(self._entries):
            for word in entry.weights:
                self._holders[word].append(index)
        lengths = [entry.length for entry in self._entries]
        self._mean_length = sum(lengths) / len(lengths) if lengths else 1.0

    def best(self, text: str) -> list[Skill]:
        """The skills that fit ``text``, best first."""
        words = set(words_of(text))
        scores: dict[int, float] = defaultdict(float)
        for word in sorted(words):
            for index in self._holders.get(word, ()):
                scores[index] += self._score(word, self._entries[index])
        fitting = {index: score for index, score in scores.items() if _is_evident(self._entries[index], words)}
        floor = _MIN_SHARE_OF_BEST * max(fitting.values(), default=0.0)
        ranked = sorted((index for index, score in fitting.items() if score >= floor), key=lambda i: (-fitting[i], i))
        return [self._entries[index].skill for index in ranked]

    def _score(self, word: str, entry: _Entry) -> float:
        num_holders = len(self._holders[word])
        rarity = math.log(1 + (len(self._entries) - num_holders + 0.5) / (num_holders + 0.5))
        weight = entry.weights[word]
        length_norm = 1 - _LENGTH_SHARE + _LENGTH_SHARE * entry.length / self._mean_length
        return rarity * weight * (_SATURATION + 1) / (weight + _SATURATION * length_norm)


def words_of(text: str) -> list[str]:
    """The words of ``text`` that carry meaning, in one form; pairs of characters where words are not spaced."""
    words: list[str] = []
    for match in _WORD.findall(text.lower()):
        for run in _CJK.findall(match):
            words.extend(run[i : i + 2] for i in range(max(1, len(run) - 1)))
        words.extend(_stem(word) for word in _CJK.sub(" ", match).split() if word not in _STOP_WORDS and len(word) > 1)
    return words


def _stem(word: str) -> str:
    for ending, shortest in (("ies", 3), ("ing", 4), ("ed", 4), ("es", 4), ("s", 3)):
        if word.endswith(ending) and len(word) - len(ending) >= shortest and not word.endswith("ss"):
            stem = word[: -len(ending)]
            return stem + "y" if ending == "ies" else stem.removesuffix("e")
    return word.removesuffix("e") if len(word) > 4 else word


def _is_evident(entry: _Entry, words: set[str]) -> bool:
    return len(entry.headline & words) >= _MIN_SHARED_WORDS or (bool(entry.named) and entry.named <= words)


def _entry(skill: Skill) -> _Entry:
    weights: dict[str, float] = defaultdict(float)
    named, described = words_of(skill.name), words_of(skill.description)
    for words, weight in (
        (named, _NAME_WEIGHT),
        (described, _DESCRIPTION_WEIGHT),
        (words_of(skill.body), _BODY_WEIGHT),
    ):
        for word, count in Counter(words).items():
            weights[word] += weight * count
    return _Entry(
        skill=skill,
        weights=dict(weights),
        named=frozenset(named),
        headline=frozenset(named) | frozenset(described),
        length=sum(weights.values()),
    )
