"""Rankings made one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.retrieval.fusion import fuse

RANKINGS = st.dictionaries(
    st.sampled_from(["lexical", "vector", "recent"]),
    st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 0.25, 0.5, 1.0])).map(lambda d: list(d.items())),
)


def test_what_both_find_stands_before_what_one_finds_first():
    fused = fuse({"lexical": [("a", 9.0), ("b", 8.0)], "vector": [("c", 0.9), ("b", 0.8)]})
    assert [one.key for one in fused] == ["b", "a", "c"]
    assert fused[0].parts == {"lexical": 8.0, "vector": 0.8}


def test_first_everywhere_is_one_and_first_in_one_of_two_is_half():
    [both] = fuse({"lexical": [("a", 9.0)], "vector": [("a", 0.1)]})
    assert both.score == pytest.approx(1)
    [one] = fuse({"lexical": [("a", 9.0)], "vector": []})
    assert one.score == pytest.approx(0.5)


def test_nothing_is_returned_rather_than_what_is_poor():
    assert fuse({"vector": [("a", 0.2)]}, floors={"vector": 0.3}) == []
    assert fuse({"lexical": [("a", 9.0)], "vector": []}, min_score=0.6) == []
    assert fuse({}) == []


def test_a_ranking_may_count_less():
    fused = fuse({"lexical": [("a", 1.0)], "vector": [("b", 1.0)]}, weights={"lexical": 0.2})
    assert [one.key for one in fused] == ["b", "a"]


@given(RANKINGS)
def test_the_order_in_which_things_are_given_does_not_matter(rankings: dict[str, list[tuple[str, float]]]):
    turned = {name: ranking[::-1] for name, ranking in reversed(rankings.items())}
    fused = fuse(rankings)
    assert fuse(turned) == fused
    assert all(0 < one.score <= 1 + 1e-9 for one in fused)
    assert {one.key for one in fused} == {key for ranking in rankings.values() for key, _ in ranking}


@given(RANKINGS)
def test_equal_scores_are_equal_places(rankings: dict[str, list[tuple[str, float]]]):
    fused = {one.key: one for one in fuse(rankings)}
    for one in fused.values():
        for other in fused.values():
            if one.parts == other.parts:
                assert one.score == other.score
