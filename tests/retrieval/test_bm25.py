"""The index: what it finds, and that its past does not matter."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from metaclaw.retrieval.bm25 import Bm25Index

WORDS = st.sampled_from(["cat", "dog", "fish", "bird", "tree"])
BAGS = st.dictionaries(WORDS, st.floats(0.25, 9), max_size=5)
KEYS = st.sampled_from("abcdef")


def index_of(documents: dict[str, dict[str, float]]) -> Bm25Index:
    index = Bm25Index()
    for key, bag in documents.items():
        index.add(key, bag)
    return index


class AnyHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.documents: dict[str, dict[str, float]] = {}
        self.index = Bm25Index()

    @rule(key=KEYS, bag=BAGS)
    def add(self, key: str, bag: dict[str, float]) -> None:
        self.documents[key] = bag
        self.index.add(key, bag)

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        self.documents.pop(key, None)
        self.index.remove(key)

    @rule(words=st.lists(WORDS))
    def ask(self, words: list[str]) -> None:
        anew = index_of(dict(sorted(self.documents.items(), reverse=True)))
        assert self.index.best(words, 9) == anew.best(words, 9)

    @invariant()
    def it_holds_what_it_was_given(self) -> None:
        assert len(self.index) == len(self.documents)
        assert all(key in self.index for key in self.documents)


test_an_index_equals_one_that_is_built_anew = AnyHistory.TestCase


@given(st.dictionaries(KEYS, BAGS), st.lists(WORDS), st.sets(KEYS))
def test_scores_among_some_are_the_scores_of_those(
    documents: dict[str, dict[str, float]], words: list[str], some: set[str]
):
    index = index_of(documents)
    whole = index.scores(words)
    assert index.scores(words, sorted(some)) == {key: score for key, score in whole.items() if key in some}
    assert index.best(words, 2) == sorted(whole.items(), key=lambda scored: (-scored[1], scored[0]))[:2]


def test_a_score_is_that_of_the_formula():
    texts = {"a": "cat cat dog", "b": "dog fish tree bird bird", "c": "dog"}
    index = index_of({key: dict(Counter(text.split())) for key, text in texts.items()})
    rarity = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    norm = 1.2 * (0.25 + 0.75 * 3 / 3)
    assert index.scores(["cat"]) == {"a": rarity * 2.2 * 2 / (2 + norm)}
    assert [key for key, _ in index.best(["dog"], 3)] == ["c", "a", "b"], "the same word says more of a short text"


def test_the_only_document_has_a_score_above_zero():
    """PITFALLS B4-7: a rarity of zero for a store of one memory, so that nothing was found."""
    assert index_of({"a": {"cat": 1}}).scores(["cat"])["a"] > 0
