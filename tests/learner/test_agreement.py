"""How a judge compares with persons."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.learner.judges.agreement import agreement_of, of_table, wilson

SCORES = st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0])


def test_kappa_and_its_interval_are_those_of_the_textbook():
    """Fleiss, Statistical Methods for Rates and Proportions, table 13.1: kappa .68, standard error .087."""
    found = of_table(((75, 1, 4), (5, 4, 1), (0, 0, 10)))
    assert found.kappa == pytest.approx(0.68, abs=0.005)
    assert found.kappa_interval is not None
    low, high = found.kappa_interval
    assert (high - low) / 2 / 1.96 == pytest.approx(0.087, abs=0.001)
    assert found.agreement == 0.89


def test_wilsons_interval_is_the_known_one():
    """Wilson for 0 of 10 and 81 of 263 (Newcombe 1998, table I)."""
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_scores_fall_into_thirds_of_the_scale_with_the_person_on_the_left():
    found = agreement_of([(1.0, -1.0), (0.25, 0.0), (-0.5, -1.0), (0.5, 1.0)])
    assert found.table == ((1, 0, 1), (0, 1, 0), (0, 0, 1))
    assert found.agreement == 0.75


def test_what_cannot_be_told_is_none():
    nothing, alike, few = agreement_of([]), agreement_of([(1.0, 1.0)] * 50), agreement_of([(1.0, 1.0), (1.0, -1.0)])
    assert (few.agreement, few.kappa) == (0.5, None)
    assert (nothing.agreement, nothing.kappa, nothing.agreement_interval) == (None, None, None)
    assert (alike.agreement, alike.kappa) == (1.0, None)


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=30))
def test_numbers_stay_within_their_bounds_and_intervals_around_them(pairs):
    found = agreement_of(pairs)
    assert found.agreement is not None
    assert found.agreement_interval is not None
    assert 0 <= found.agreement_interval[0] <= found.agreement + 1e-9
    assert found.agreement - 1e-9 <= found.agreement_interval[1] <= 1
    if found.kappa is not None and found.kappa_interval is not None:
        assert -1 <= found.kappa_interval[0] <= found.kappa + 1e-9
        assert found.kappa - 1e-9 <= found.kappa_interval[1] <= 1
