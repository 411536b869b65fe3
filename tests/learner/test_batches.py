"""Which samples an update takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.config import UpdateSettings
from metaclaw.journal.learning_records import Baseline, Sample
from metaclaw.learner.batches import select
from metaclaw.learner.lineage import Lineage

DAY_S = 86_400.0
LIMITS = UpdateSettings(min_exchanges=4, min_informative=2, max_exchanges=6)
LINE = Lineage({number: number - 1 for number in range(1, 7)})


def sample(turn: str, reward: float, *, exchange: str | None = None, version: int = 3, at: float = 0.0) -> Sample:
    return Sample(turn=turn, exchange=exchange or turn, agent="main", version=version, reward=reward, sampled_at=at)


def test_too_few_exchanges_wait():
    selection = select([sample("a", 1), sample("b", -1)], parent=3, lineage=LINE, baseline=None, now=0, limits=LIMITS)
    assert selection.batch is None
    assert selection.waiting == "2 of 4 judged exchanges"
    assert not selection.expired


def test_turns_of_one_exchange_count_once():
    turns = [sample(f"t{index}", 1, exchange="x") for index in range(9)]
    assert (
        select(turns, parent=3, lineage=LINE, baseline=None, now=0, limits=LIMITS).waiting == "1 of 4 judged exchanges"
    )


def test_equal_rewards_wait_for_something_to_learn_from():
    """PITFALLS R4: uniform batches stepped with no gradient, and the step was counted."""
    turns = [sample(f"t{index}", 0.5) for index in range(5)]
    selection = select(turns, parent=3, lineage=LINE, baseline=None, now=0, limits=LIMITS)
    assert selection.batch is None
    assert "0 of 2 exchanges" in selection.waiting
    assert not selection.expired


def test_a_full_batch_without_signal_is_given_up_so_that_later_ones_are_reached():
    turns = [sample(f"t{index}", 0.5, at=index) for index in range(7)]
    selection = select(turns, parent=3, lineage=LINE, baseline=None, now=10, limits=LIMITS)
    assert selection.expired == {"uninformative": tuple(f"t{index}" for index in range(6))}


@pytest.mark.parametrize(("version", "is_stale"), [(0, True), (1, False), (3, False), (5, False), (6, True)])
def test_a_sample_too_many_versions_away_expires(version, is_stale):
    selection = select([sample("a", 1, version=version)], parent=3, lineage=LINE, baseline=None, now=0, limits=LIMITS)
    assert selection.expired == ({"stale": ("a",)} if is_stale else {})


def test_after_a_rollback_staleness_counts_updates_not_numbers():
    """From 10 back to 2: the next version is 11, and everything that 2 had said meanwhile was stale by nine."""
    lineage = Lineage({number: number - 1 for number in range(1, 11)} | {11: 2, 12: 11})
    turns = [sample(f"v{version}", 1, version=version) for version in (0, 1, 2, 3, 4, 10, 11, 12, 99)]
    selection = select(turns, parent=11, lineage=lineage, baseline=None, now=0, limits=LIMITS)
    assert selection.expired == {"stale": ("v0", "v10", "v4", "v99")}


@given(st.lists(st.integers(0, 99), max_size=20), st.data())
def test_distances_in_a_tree_of_versions_are_those_of_a_metric(drawn, data):
    lineage = Lineage({number: parent % number for number, parent in enumerate(drawn, start=1)})
    one, other, third = (data.draw(st.integers(0, len(drawn))) for _ in range(3))
    distance = lineage.distance(one, other)
    assert distance == lineage.distance(other, one)
    assert (distance == 0) == (one == other)
    assert distance <= lineage.distance(one, third) + lineage.distance(third, other)
    assert lineage.distance(one, 0) == len(lineage.ancestors(one)) - 1


def test_a_sample_older_than_the_limit_expires():
    turns = [sample("old", 1, at=0), sample("young", 1, at=DAY_S)]
    assert select(turns, parent=3, lineage=LINE, baseline=None, now=7.5 * DAY_S, limits=LIMITS).expired == {
        "too_old": ("old",)
    }


@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.integers(0, 5), st.integers(0, 9)),
        max_size=40,
    ),
    st.none() | st.just(Baseline(value=0.2, num_rewards=9)),
)
def test_nothing_is_lost_between_batch_expiry_and_waiting(drawn, baseline):
    """PITFALLS R2: what exceeded the batch was dropped."""
    turns = [
        sample(f"t{index}", rewards, exchange=f"x{exchange}", version=version, at=days * DAY_S)
        for index, (exchange, rewards, version, days) in enumerate(drawn)
    ]
    by_exchange = {turn.exchange: turn.reward for turn in turns}
    turns = [
        sample(t.turn, by_exchange[t.exchange], exchange=t.exchange, version=t.version, at=t.sampled_at) for t in turns
    ]
    selection = select(turns, parent=3, lineage=LINE, baseline=baseline, now=9 * DAY_S, limits=LIMITS)
    expired = [turn for names in selection.expired.values() for turn in names]
    assert len(expired) == len(set(expired))
    if selection.batch is None:
        assert selection.waiting
        return
    taken = [one.turn for one in selection.batch.samples]
    assert not set(taken) & set(expired)
    assert LIMITS.min_exchanges <= len(selection.batch.surprise) <= LIMITS.max_exchanges
    for exchange in selection.batch.surprise:
        whole = {turn.turn for turn in turns if turn.exchange == exchange} - set(expired)
        assert whole <= set(taken)


def test_the_setting_chooses_what_rewards_are_held_against():
    turns = [sample("a", 1), sample("b", -1), sample("c", 0), sample("d", 0)]
    limits = LIMITS.model_copy(update={"advantage": "leave_one_out"})
    known = Baseline(value=0.9, num_rewards=4)
    batch = select(turns, parent=3, lineage=LINE, baseline=known, now=0, limits=limits).batch
    assert batch is not None
    assert batch.surprise == pytest.approx({"a": 4 / 3, "b": -4 / 3, "c": 0, "d": 0})
