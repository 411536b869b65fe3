"""How much of a prompt is read beside running answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metaclaw.training.samplers.pace import ChunkLimits, Pace

LIMITS = ChunkLimits(least=8, most=256, idle=512)


def settled(pace: Pace, plain_s: float, token_s: float, steps: int = 60) -> list[float]:
    """What the steps took on a machine with these costs, all of them wishing to read."""
    taken = []
    for _ in range(steps):
        chunk = pace.chunk(4)
        taken.append(plain_s + chunk * token_s)
        pace.note(taken[-1], 4, chunk)
    return taken


@given(st.floats(0.001, 1.0), st.floats(1e-6, 0.01))
def test_a_step_that_reads_takes_at_most_two_thirds_longer_or_reads_the_least(plain_s: float, token_s: float) -> None:
    taken = settled(Pace(LIMITS), plain_s, token_s)
    assert max(taken) <= max(1.67 * plain_s, plain_s + LIMITS.least * token_s)


def test_prompts_are_never_starved_and_the_usual_step_is_measured_again() -> None:
    taken = settled(Pace(LIMITS), 0.1, 1.0)
    plain = sum(step == 0.1 for step in taken)
    assert 0 < plain <= len(taken) // 8


def test_a_step_that_was_quick_by_chance_does_not_make_the_next_one_long() -> None:
    pace = Pace(LIMITS)
    settled(pace, 0.1, 0.005)
    usual = pace.chunk(4)
    for _ in range(3):
        pace.note(0.05, 4, usual)
    assert pace.chunk(4) <= 2 * usual


def test_the_chunk_shrinks_when_the_machine_gets_slower() -> None:
    pace = Pace(LIMITS)
    settled(pace, 0.1, 0.001)
    before = pace.chunk(4) or pace.chunk(3)
    taken = settled(pace, 0.1, 0.004, steps=40)
    assert before > 40
    assert max(taken[-20:]) <= 0.167


def test_without_running_answers_the_chunk_is_large() -> None:
    assert Pace(LIMITS).chunk(0) == LIMITS.idle
