"""Which skills fit a text: lexical ranking.

Owns words, weights and the threshold; refuses to know files and budgets. Invariant: no skill is returned rather
than a poor one, and equal input gives equal order.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
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
    named: frozenset[str]
    headline: frozenset[str]
    scores: Mapping[str, float]  # what each word counts when a text holds it


class SkillRanking:
    """An index over some skills. What does not depend on the text is worked out when it is made."""

    def __init__(self, skills: Sequence[Skill]) -> None:
        self._entries = _entries(sorted(skills, key=lambda skill: skill.name))
        self._by_headline: dict[str, list[int]] = defaultdict(list)
        for index, entry in enumerate(self._entries):
            for word in entry.headline:
                self._by_headline[word].append(index)

    def best(self, text: str) -> list[Skill]:
        """The skills that fit ``text``, best first."""
        words = sorted(set(words_of(text)))
        fitting: dict[int, float] = {}
        for index in self._evident(words):
            scores = self._entries[index].scores
            fitting[index] = sum(scores.get(word, 0.0) for word in words)
        floor = _MIN_SHARE_OF_BEST * max(fitting.values(), default=0.0)
        ranked = sorted((index for index, score in fitting.items() if score >= floor), key=lambda i: (-fitting[i], i))
        return [self._entries[index].skill for index in ranked]

    def _evident(self, words: Sequence[str]) -> list[int]:
        """Those with enough words of name and description in the text, or all of the name."""
        shared: Counter[int] = Counter()
        for word in words:
            shared.update(self._by_headline.get(word, ()))  # counted in C: a word may be that of many skills
        known, entries = frozenset(words), self._entries
        return [
            index
            for index, number in shared.items()
            if number >= _MIN_SHARED_WORDS or (number == len(entries[index].named) and entries[index].named <= known)
        ]


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


def _entries(skills: Sequence[Skill]) -> list[_Entry]:
    weighed = [_weights(skill) for skill in skills]
    scores = _scores(weighed)
    entries: list[_Entry] = []
    for skill, of_words in zip(skills, scores, strict=True):
        named = frozenset(words_of(skill.name))
        entries.append(_Entry(skill, named, named | frozenset(words_of(skill.description)), of_words))
    return entries


def _weights(skill: Skill) -> dict[str, float]:
    weights: dict[str, float] = defaultdict(float)
    for text, weight in (
        (skill.name, _NAME_WEIGHT),
        (skill.description, _DESCRIPTION_WEIGHT),
        (skill.body, _BODY_WEIGHT),
    ):
        for word, count in Counter(words_of(text)).items():
            weights[word] += weight * count
    return weights


def _scores(weighed: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """What each word counts in each of some texts: BM25."""
    lengths = [sum(weights.values()) for weights in weighed]
    mean_length = sum(lengths) / len(lengths) if any(lengths) else 1.0
    num_holders = Counter(word for weights in weighed for word in weights)
    rarity = {word: _rarity(holders, len(weighed)) for word, holders in num_holders.items()}
    scores: list[dict[str, float]] = []
    for weights, length in zip(weighed, lengths, strict=True):
        norm = _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * length / mean_length)
        scores.append(
            {word: rarity[word] * weight * (_SATURATION + 1) / (weight + norm) for word, weight in weights.items()}
        )
    return scores


def _rarity(num_holders: int, number: int) -> float:
    return math.log(1 + (number - num_holders + 0.5) / (num_holders + 0.5))
