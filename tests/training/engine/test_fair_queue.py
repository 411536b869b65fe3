"""Whose turn it is."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from metaclaw.training.fair_queue import FairQueue, Job


class Desk:
    """A queue, and what was advanced in which order. A job's ``work`` is the number of micro-batches it has left."""

    def __init__(self, *, tokens: int = 256) -> None:
        self.queue = FairQueue()
        self.order: list[str] = []
        self._tokens = tokens
        self._left: dict[Job, int] = {}

    def add(self, share: str, model: str, *, batches: int = 0) -> Job:
        job = Job(frame_id=len(self._left) + 1, share=share, model_id=model, is_short=batches == 0, op="op", work=None)
        self._left[job] = batches or 1
        self.queue.add(job)
        return job

    def advance(self, times: int = 1) -> None:
        for _ in range(times):
            job = self.queue.next()
            if job is None:
                return
            self.order.append(job.share)
            self._left[job] -= 1
            self.queue.charge(job, 64 if job.is_short else self._tokens)
            if self._left[job] == 0:
                self.queue.remove(job)


def test_two_tenants_get_turns_in_equal_measure_however_much_one_asks_for():
    desk = Desk()
    for number in range(6):
        desk.add("flood", f"f{number}", batches=50)
    desk.advance(10)
    desk.add("calm", "c", batches=20)
    desk.advance(40)
    assert desk.order[:10] == ["flood"] * 10
    assert desk.order[10:].count("calm") == 20
    assert all(a != b for a, b in pairwise(desk.order[10:]))


def test_within_a_share_jobs_go_by_arrival_and_those_of_a_model_never_overlap():
    desk = Desk()
    first = desk.add("a", "m", batches=2)
    second = desk.add("a", "m", batches=1)
    third = desk.add("b", "m", batches=1)  # an admin's, on a tenant's model
    assert desk.queue.next() is first
    desk.advance(2)
    assert desk.queue.next() is second
    desk.advance(1)
    assert desk.queue.next() is third


def test_a_short_job_waits_for_one_micro_batch_at_most_even_of_a_share_that_had_its_part():
    desk = Desk()
    desk.add("a", "a1", batches=100)
    desk.add("b", "b1", batches=100)
    desk.advance(7)
    for share, model in (("a", "a2"), ("b", "b2"), ("c", "c1")):
        job = desk.add(share, model)
        assert desk.queue.next() is job
        desk.queue.remove(job)


def test_a_flood_of_short_jobs_does_not_stop_the_passes():
    desk = Desk()
    desk.add("trainer", "t", batches=10)
    for number in range(400):
        desk.add("flood", f"f{number}")
    desk.advance(60)
    assert desk.order.count("trainer") == 10


def test_idleness_saves_nothing_up():
    desk = Desk()
    desk.add("busy", "b", batches=1000)
    desk.add("early", "e", batches=1)
    desk.advance(200)
    desk.add("early", "e", batches=100)
    desk.advance(20)
    assert desk.order[-20:].count("early") == 10


def test_shares_that_went_are_forgotten():
    desk = Desk()
    desk.add("busy", "b", batches=10_000)
    for number in range(100):
        desk.add(f"guest{number}", f"g{number}", batches=1)
        desk.advance(3)
    assert len(desk.queue._given) < 5


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 5), st.integers(0, 6), st.integers(0, 3)), min_size=1,
        max_size=40,
    )
)  # fmt: skip
def test_every_job_ends_and_models_keep_their_order(arrivals: list[tuple[str, int, int, int]]):
    desk = Desk()
    jobs: list[Job] = []
    ended: list[Job] = []

    def advance() -> None:
        before = [job for job in jobs if job not in ended]
        desk.advance()
        ended.extend(job for job in before if desk.queue.find(job.frame_id) is None)

    for share, model, batches, steps in arrivals:
        jobs.append(desk.add(share, f"m{model}", batches=batches))
        for _ in range(steps):
            advance()
    for _ in range(sum(max(batches, 1) for _, _, batches, _ in arrivals)):
        advance()
    assert len(desk.queue) == 0
    assert desk.queue.next() is None
    for model in {job.model_id for job in jobs}:
        ids = [job.frame_id for job in ended if job.model_id == model]
        assert ids == sorted(ids)
