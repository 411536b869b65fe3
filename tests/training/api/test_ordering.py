"""The order of jobs, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.errors import ConflictError, OverloadedError
from metaclaw.training.api.ordering import Lane


@given(st.permutations(range(1, 13)), st.lists(st.booleans(), min_size=12, max_size=12))
def test_jobs_come_out_in_the_order_of_their_numbers_whatever_the_order_of_arrival(arrival, takes):
    lane = Lane[int](1)
    out = []
    for seq_id, take in zip(arrival, takes, strict=True):
        lane.put(seq_id, seq_id, 1)
        while take and (job := lane.take()) is not None:
            out.append(job)
    while (job := lane.take()) is not None:
        out.append(job)
    assert out == list(range(1, 13))


@given(st.lists(st.integers(min_value=1, max_value=8), max_size=40))
def test_a_number_is_never_handed_out_twice(arrival):
    lane = Lane[int](1)
    out = []
    for seq_id in arrival:
        try:
            lane.put(seq_id, seq_id, 1)
        except ConflictError:
            assert seq_id in out or seq_id in arrival
        while (job := lane.take()) is not None:
            out.append(job)
    assert out == list(range(1, len(out) + 1))


@given(st.integers(min_value=2, max_value=30), st.integers(min_value=0, max_value=5))
def test_a_full_lane_refuses_what_must_wait_but_never_the_job_that_all_wait_for(later, room):
    """KNOWLEDGE 6: unlimited batching of queued work ends in out-of-memory; a refused gap would end in a deadlock."""
    lane = Lane[int](1, max_jobs=room)
    for seq_id in range(2, later + 1):
        if lane.num_waiting < room:
            lane.put(seq_id, seq_id, 1)
        else:
            with pytest.raises(OverloadedError):
                lane.put(seq_id, seq_id, 1)
    lane.put(1, 1, 1)
    assert [lane.take() for _ in range(min(room, later - 1) + 1)] == list(range(1, min(room, later - 1) + 2))


def test_bytes_that_wait_are_limited_too():
    lane = Lane[str](1, max_bytes=100)
    lane.put(2, "two", 90)
    with pytest.raises(OverloadedError):
        lane.put(3, "three", 20)
    lane.put(1, "one", 10_000)
    assert [lane.take(), lane.take()] == ["one", "two"]
    lane.put(3, "three", 20)


def test_a_lane_that_is_drained_gives_out_what_waits_behind_a_gap():
    lane = Lane[int](1)
    lane.put(3, 3, 1)
    lane.put(5, 5, 1)
    assert lane.drain() == [3, 5]
    assert lane.num_waiting == 0
