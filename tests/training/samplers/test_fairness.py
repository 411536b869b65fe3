"""Whose turn it is, when more is asked than rows are there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metaclaw.training.commands import command_frame
from metaclaw.training.samplers.fair_queue import FairQueue
from metaclaw.training.samplers.limits import Limits
from metaclaw.training.samplers.requests import RequestReader
from tests.training.samplers.conftest import Family
from tests.training.samplers.loops import LocalLoop, generate

READER = RequestReader(Limits(vocab_size=263, max_context=64, end_tokens=()), decode=lambda _: "", entropy=lambda: 0)


def test_a_flood_from_one_share_delays_another_by_one_rows_turnover(tied: Family) -> None:
    loop = LocalLoop(tied.base, max_concurrent=4)
    flood = range(1000, 1500)
    for frame_id in flood:
        loop.post_frame(command_frame(frame_id, generate("flood", max_tokens=10), share="greedy"))
    loop.turn(5)
    loop.post_frame(command_frame(1, generate("hello", max_tokens=10), share="other"))
    turns = 0
    while loop.answers.by_id[1].end is None:
        loop.turn()
        turns += 1
    assert turns <= 25  # the rest of a running row, then its own
    assert sum(loop.answers.by_id[frame_id].end is not None for frame_id in flood) < 20
    for frame_id in flood:  # and leave nothing behind
        loop.loop._decoder.cancel(frame_id)
    assert not loop.loop._decoder.is_busy


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(1, 5))
def test_shares_take_turns_and_each_keeps_its_order(shares: list[str], num_rows: int) -> None:
    queue = FairQueue()
    for frame_id, share in enumerate(shares):
        queue.add(READER.read(frame_id, generate("x"), 0, share=share))
    begun, held = [], []
    while (request := queue.next(held)) is not None:
        queue.remove(request)
        begun.append(request)
        waiting = {one.share for one in (READER.read(0, generate("x"), 0, share=s) for s in queue._queues)}
        assert all(held.count(request.share) <= held.count(share) for share in waiting)
        held = [*held, request.share][-num_rows:]
    assert len(begun) == len(shares)
    for share in "abc":
        ids = [request.frame_id for request in begun if request.share == share]
        assert ids == sorted(ids)
