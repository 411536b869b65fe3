"""The state of training, over every sequence of events, and over a whole year of nights with a clock of its own."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.learner.windows.machine import Seen, State, following

SEEN = st.builds(Seen, is_open=st.booleans(), running=st.sampled_from(["nothing", "in_window", "asked"]))
STATES = st.sampled_from(["idle", "window_open", "updating", "pausing"])


@given(STATES, SEEN)
def test_an_update_that_nobody_asked_for_is_never_updating_outside_a_window(state: State, seen: Seen):
    after = following(state, seen)
    if seen.running == "in_window" and not seen.is_open:
        assert after == "pausing"
    assert (after == "updating") <= (seen.is_open or seen.running == "asked")


@given(st.lists(SEEN, min_size=1))
def test_a_stop_is_not_taken_back_before_the_update_has_ended(events: list[Seen]):
    state: State = "idle"
    for seen in events:
        after = following(state, seen)
        if state == "pausing" and seen.running == "in_window":
            assert after == "pausing"
        state = after


@given(STATES, st.booleans())
def test_every_state_ends_when_nothing_runs(state: State, is_open: bool):
    """PITFALLS R1: a pause in the middle of collecting was never left again."""
    assert following(state, Seen(is_open=is_open, running="nothing")) == ("window_open" if is_open else "idle")


@given(STATES, SEEN)
@settings(max_examples=50)
def test_a_look_that_finds_the_same_again_changes_nothing(state: State, seen: Seen):
    after = following(state, seen)
    assert following(after, seen) == after
