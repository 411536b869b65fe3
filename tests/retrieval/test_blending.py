"""Rankings made one by their scores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.retrieval.blending import Ranking, blend

SCORES = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 100, allow_subnormal=False))


def test_a_ranking_that_tells_nothing_apart_shifts_nothing():
    """By places alone "b" would be first."""
    words = Ranking(scores=[("a", 9.0), ("b", 2.0)], weight=1.0)
    meanings = Ranking(scores=[("c", 1.50), ("b", 1.49), ("a", 1.48)], weight=1.0)
    blended = blend([words, meanings])
    assert sorted(blended, key=lambda key: -blended[key]) == ["a", "b", "c"]


def test_best_in_all_is_one_and_weights_are_shares():
    words, meanings = Ranking(scores=[("a", 9.0)], weight=3.0), Ranking(scores=[("a", 0.1), ("b", 0.05)], weight=1.0)
    assert blend([words, meanings]) == {"a": pytest.approx(1.0), "b": pytest.approx(0.125)}
    assert blend([words, Ranking(scores=[], weight=1.0)]) == {"a": pytest.approx(0.75)}
    assert blend([Ranking(scores=[("a", 0.0)], weight=1.0)]) == {"a": 0.0}


@given(SCORES, SCORES)
def test_the_scale_of_a_ranking_and_the_order_of_things_do_not_matter(one: dict[str, float], other: dict[str, float]):
    first, second = Ranking(scores=list(one.items()), weight=0.7), Ranking(scores=list(other.items()), weight=0.3)
    turned = Ranking(scores=[(key, score * 4) for key, score in reversed(one.items())], weight=0.7)
    blended = blend([first, second])
    assert blend([second, turned]) == pytest.approx(blended)
    assert set(blended) == {*one, *other}
    assert all(0 <= score <= 1 + 1e-9 for score in blended.values())
