"""What is done to bodies before anybody knows what they mean."""

from __future__ import annotations

import threading

import pytest

from metaclaw.training.api.requests import off_loop


@pytest.mark.anyio
@pytest.mark.parametrize(("num_bytes", "here"), [(10, True), (64 * 1024, True), (64 * 1024 + 1, False)])
async def test_large_bodies_are_read_in_a_thread_and_small_ones_without_its_price(num_bytes, here):
    thread = await off_loop(lambda _: threading.get_ident(), b"x" * num_bytes)
    assert (thread == threading.get_ident()) is here
