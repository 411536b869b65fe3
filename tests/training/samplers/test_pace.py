"""How much of a prompt is read beside running answers."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from metaclaw.training.samplers.pace import ChunkLimits, Pace, Running

LIMITS = ChunkLimits(least=8, most=256, idle=512)
GPU_LIMITS = ChunkLimits(least=64, most=2048, idle=4096)
FOUR = Running(num_rows=4, num_places=400)


def settled(pace: Pace, plain_s: float, token_s: float, steps: int = 60, *, fixed_s: float = 0.0) -> list[float]:
    """What the steps took on a machine with these costs, all of them wishing to read."""
    taken = []
    for _ in range(steps):
        chunk = pace.chunk(FOUR)
        taken.append(plain_s + chunk * token_s + (fixed_s if chunk else 0.0))
        pace.note(taken[-1], FOUR, chunk)
    return taken


@given(st.floats(0.001, 1.0), st.floats(1e-6, 0.01))
def test_a_step_that_reads_takes_at_most_two_thirds_longer_or_reads_the_least(plain_s: float, token_s: float) -> None:
    taken = settled(Pace(LIMITS), plain_s, token_s)
    assert max(taken) <= max(1.67 * plain_s, plain_s + LIMITS.least * token_s)


@given(st.floats(0.005, 0.1), st.floats(0.4, 4.0), st.sampled_from([0.0, 0.03]), st.integers(0, 2**32 - 1))
def test_where_tokens_cost_little_beside_reading_at_all_much_is_read(
    plain_s: float, share: float, jitter: float, seed: int
) -> None:
    """A GPU: launching what a mixed pass needs takes its time, whatever the number of tokens, and times vary."""
    noise = random.Random(seed)
    pace, fixed_s, token_s = Pace(GPU_LIMITS), share * plain_s, 25e-6
    aim_s = max(1.6 * plain_s, plain_s + 2 * fixed_s, plain_s + fixed_s + GPU_LIMITS.least * token_s)
    read = 0
    for _ in range(120):
        chunk = pace.chunk(FOUR)
        usual_s = plain_s + chunk * token_s + (fixed_s if chunk else 0.0)
        pace.note(usual_s * noise.uniform(1 - jitter, 1 + jitter), FOUR, chunk)
        read += chunk
        # What tokens cost is the difference of three measurements, each of which is off by so much.
        assert usual_s <= (1.03 + 9 * jitter) * aim_s
    worth_s = max(0.6 * plain_s - fixed_s, fixed_s)  # what may be spent on tokens in a step
    assert read >= 60 * min(2048, max(64, 0.6 * worth_s / token_s))


def test_prompts_are_never_starved_and_the_usual_step_is_measured_again() -> None:
    taken = settled(Pace(LIMITS), 0.1, 1.0)
    plain = sum(step == 0.1 for step in taken)
    assert 0 < plain <= len(taken) // 8


def test_a_step_that_was_quick_by_chance_does_not_make_the_next_one_long() -> None:
    pace = Pace(LIMITS)
    settled(pace, 0.1, 0.005)
    usual = pace.chunk(FOUR)
    for _ in range(3):
        pace.note(0.05, FOUR, usual)
    assert pace.chunk(FOUR) <= 2 * usual


def test_the_chunk_shrinks_when_the_machine_gets_slower() -> None:
    pace = Pace(LIMITS)
    settled(pace, 0.1, 0.001)
    before = pace.chunk(FOUR) or pace.chunk(FOUR._replace(num_rows=3))
    taken = settled(pace, 0.1, 0.004, steps=40)
    assert before > 40
    assert max(taken[-20:]) <= 0.167


@given(st.floats(0.001, 1.0), st.floats(1e-6, 0.01), st.floats(1.0, 1.5))
def test_what_training_makes_steps_longer_is_taken_off_what_reading_may(plain_s, token_s, slower) -> None:
    pace = Pace(LIMITS)
    settled(pace, plain_s, token_s)
    taken = settled(pace, slower * plain_s, slower * token_s, steps=100)
    # Reading 4 tokens costs as much as 4 more; what a token costs is known to a part of one.
    least = max(1.15 * slower * plain_s, slower * (plain_s + (LIMITS.least + 1) * token_s))
    assert max(taken[40:]) <= max(1.8 * plain_s, least) + 1e-9


def test_conversations_that_grow_are_no_disturbance() -> None:
    """Three times the places take three times as long, and as much of a prompt is read beside them."""
    pace = Pace(LIMITS)
    settled(pace, 0.1, 0.001)
    for _ in range(8):
        pace.note(0.3, long := Running(num_rows=4, num_places=4000), 0)
    assert pace.spare_s(long) >= 0.5 * 0.3


def test_without_running_answers_the_chunk_is_large() -> None:
    assert Pace(LIMITS).chunk(Running(num_rows=0, num_places=0)) == LIMITS.idle
