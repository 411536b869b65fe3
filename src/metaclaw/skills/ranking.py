"""Which skills fit a text, by its words.

Owns the weights and the threshold; refuses to know files, budgets and models. Invariant: no skill is returned rather
than a poor one, and equal input gives equal order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Set
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
        self._named: dict[str, frozenset[str]] = {}
        self._headlines: dict[str, list[str]] = defaultdict(list)
        self._subjects: dict[str, list[str]] = defaultdict(list)
        self._index = Bm25Index()
        for name, skill in sorted(self._skills.items()):
            self._hold(name, skill)

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
        """Those of which the words of the headline leave no doubt that they are meant."""
        shared: Counter[str] = Counter()
        for word in words:
            shared.update(self._headlines.get(word, ()))  # counted in C: a word may be that of many skills
        evident = [
            name
            for name, number in shared.items()
            if number >= _MIN_SHARED_WORDS or (self._named[name] and self._named[name] <= words)
        ]
        evident += [name for name in self._told_by_one(words) if name not in evident]
        return evident if len(evident) <= _MAX_CONSIDERED else _sharing_most(shared, evident)

    def _told_by_one(self, words: Set[str]) -> Iterator[str]:
        """Those whose subject one of ``words`` is, and is that of no other."""
        if len(self._skills) < _MIN_SKILLS_TO_TELL or len(words) > 1 / _MIN_SHARE_OF_MESSAGE:
            return
        for word in sorted(words & self._subjects.keys()):
            if self._index.num_holding(word) == 1:
                yield from self._subjects[word]

    def _hold(self, name: str, skill: Skill) -> None:
        words = _weighed(skill)
        self._named[name] = words.named
        for word in words.subjects:
            self._subjects[word].append(name)
        for word in words.headline:
            self._headlines[word].append(name)
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


def _sharing_most(shared: Counter[str], names: Sequence[str]) -> list[str]:
    """``_MAX_CONSIDERED`` of ``names``: a long text shares two words with everything."""
    numbers = Counter(shared[name] for name in names)
    least, num_above = 0, 0
    for least in sorted(numbers, reverse=True):
        if num_above + numbers[least] >= _MAX_CONSIDERED:
            break
        num_above += numbers[least]
    chosen = [name for name in names if shared[name] > least]
    return chosen + sorted(name for name in names if shared[name] == least)[: _MAX_CONSIDERED - len(chosen)]
