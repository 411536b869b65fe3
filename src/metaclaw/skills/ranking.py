"""Which skills fit a text, by its words.

Owns the weights and the threshold; refuses to know files, budgets and models. Invariant: no skill is returned rather
than a poor one, and equal input gives equal order.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

from metaclaw.retrieval.bm25 import Bm25Index
from metaclaw.retrieval.words import words_of
from metaclaw.skills.skill import Skill

# A word in the name says more about a skill than one in its body.
_NAME_WEIGHT, _DESCRIPTION_WEIGHT, _BODY_WEIGHT = 3.0, 2.0, 0.25
_MIN_SHARED_WORDS = 2  # of name and description; one shared word is a coincidence
# But for one that a skill is named after and described by, that no other skill of many as much as mentions, and that is
# a good part of what is said. Of 1,960 messages that ask for nothing it recalled nothing that was not recalled before.
_MIN_SKILLS_TO_TELL, _MIN_SHARE_OF_MESSAGE = 20, 0.25
_MIN_SHARE_OF_BEST = 0.4
_MAX_CONSIDERED = 50


@dataclass(frozen=True, slots=True)
class Ranked:
    """A skill and how well it fits; scores of one query can be compared with each other."""

    skill: Skill
    score: float


class SkillRanking:
    """An index over some skills."""

    def __init__(self, skills: Sequence[Skill]) -> None:
        self._skills = {skill.name: skill for skill in skills}
        self._names = sorted(self._skills)
        # Sets of skills by word, as numbers with a bit for each: a word may be that of hundreds of thousands.
        self._headlines: dict[str, int] = defaultdict(int)
        self._sole_names: dict[str, int] = defaultdict(int)  # of the skills that are called by that one word
        self._subjects: dict[str, int] = defaultdict(int)  # of those that are named after it and described by it
        self._index = Bm25Index()
        for number, name in enumerate(self._names):
            self._hold(1 << number, name)

    def best(self, text: str) -> list[Skill]:
        """The skills that fit ``text``, best first."""
        return [ranked.skill for ranked in self.ranked(text)]

    def ranked(self, text: str) -> list[Ranked]:
        """The skills that fit ``text`` with their scores, best first."""
        words = set(words_of(text))
        scores = self._index.scores(words, self._evident(words))
        floor = _MIN_SHARE_OF_BEST * max(scores.values(), default=0.0)
        fitting = sorted((-score, name) for name, score in scores.items() if score >= floor)
        return [Ranked(self._skills[name], -negated) for negated, name in fitting]

    def _evident(self, words: Set[str]) -> list[str]:
        """Those of which the words of the headline leave no doubt that they are meant.

        A long text shares two words with everything: then the ``_MAX_CONSIDERED`` that share the most.
        """
        called = self._told_by_one(words)
        for word in words:
            called |= self._sole_names.get(word, 0)
        sharing = _sharing(self._headlines[word] for word in words if word in self._headlines)
        chosen = 0
        for number in range(len(sharing), 0, -1):
            more = (sharing[number - 1] if number >= _MIN_SHARED_WORDS else called) & ~chosen
            room = _MAX_CONSIDERED - chosen.bit_count()
            chosen |= more if more.bit_count() <= room else _lowest(more, room)
        return [self._names[number] for number in _bits(chosen)]

    def _told_by_one(self, words: Set[str]) -> int:
        """Those whose subject one of ``words`` is, and is that of no other."""
        if len(self._skills) < _MIN_SKILLS_TO_TELL or len(words) > 1 / _MIN_SHARE_OF_MESSAGE:
            return 0
        told = 0
        for word in words & self._subjects.keys():
            if self._index.num_holding(word) == 1:
                told |= self._subjects[word]
        return told

    def _hold(self, bit: int, name: str) -> None:
        words = _weighed(self._skills[name])
        for word in words.subjects:
            self._subjects[word] |= bit
        if len(words.named) == 1:
            self._sole_names[next(iter(words.named))] |= bit
        for word in words.headline:
            self._headlines[word] |= bit
        self._index.add(name, words.weights)


@dataclass(frozen=True, slots=True)
class _Words:
    named: frozenset[str]
    headline: frozenset[str]
    subjects: frozenset[str]
    weights: dict[str, float]


@lru_cache(maxsize=4096)  # most skills are the same in the next index, and in that of the next agent
def _weighed(skill: Skill) -> _Words:
    weights: dict[str, float] = defaultdict(float)
    named, described = words_of(skill.name), words_of(skill.description)
    for words, weight in (
        (named, _NAME_WEIGHT),
        (described, _DESCRIPTION_WEIGHT),
        (words_of(skill.body), _BODY_WEIGHT),
    ):
        for word, count in Counter(words).items():
            weights[word] += weight * count
    subjects = frozenset(named) & frozenset(described)
    return _Words(frozenset(named), frozenset((*named, *described)), subjects, dict(weights))


def _sharing(holders: Iterable[int]) -> list[int]:
    """Who is among one of ``holders`` at least, among two, among three, and so on: sets as numbers."""
    sharing: list[int] = []
    for these in holders:
        for number, those in enumerate(sharing):
            sharing[number], these = those | these, those & these
            if not these:
                break
        if these:
            sharing.append(these)
    return sharing


def _lowest(bits: int, number: int) -> int:
    return sum(1 << bit for bit in itertools.islice(_bits(bits), number))


def _bits(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
