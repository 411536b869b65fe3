"""Request ids and results, without a server."""

from __future__ import annotations

import asyncio

import pytest

from metaclaw.errors import ConflictError, NotFoundError
from metaclaw.training.api.futures import KEEP_DELIVERED_S, KEEP_UNCLAIMED_S, Futures, Result
from metaclaw.training.api.tenants import ADMIN

pytestmark = pytest.mark.anyio

NOW = [0.0]


@pytest.fixture
def futures() -> Futures:
    NOW[0] = 0.0
    return Futures(lambda: NOW[0], max_result_bytes=100)


def test_the_same_request_finds_its_id_and_another_body_is_a_conflict(futures):
    """KNOWLEDGE 6: a retried step applied twice (SkyRL #2035)."""
    request_id = futures.open("", "seq_id 1 of model m", b"digest")
    assert futures.find("seq_id 1 of model m", b"digest") == request_id
    with pytest.raises(ConflictError, match="seq_id 1 of model m"):
        futures.find("seq_id 1 of model m", b"other")


async def test_a_poll_waits_for_the_result_and_goes_home_empty_when_time_is_up(futures):
    request_id = futures.open("", "a", b"")
    assert await futures.wait(ADMIN, request_id, 0.01) is None
    waiting = asyncio.ensure_future(futures.wait(ADMIN, request_id, 10))
    await asyncio.sleep(0)
    futures.finish(request_id, Result(body=b"{}"))
    assert await waiting == Result(body=b"{}")


async def test_a_delivered_result_stays_for_a_while_and_then_its_id_says_why_it_is_gone(futures):
    request_id = futures.open("", "a", b"")
    futures.finish(request_id, Result(body=b"x"))
    await futures.wait(ADMIN, request_id, 0)
    NOW[0] = KEEP_DELIVERED_S - 1
    futures.expire()
    assert await futures.wait(ADMIN, request_id, 0) == Result(body=b"x")
    NOW[0] = 2 * KEEP_DELIVERED_S
    futures.expire()
    with pytest.raises(NotFoundError, match="delivered more than"):
        await futures.wait(ADMIN, request_id, 0)
    assert futures.find("a", b"") is None


async def test_a_result_that_nobody_fetches_is_forgotten_but_an_unfinished_one_is_not(futures):
    finished, running = futures.open("", "a", b""), futures.open("", "b", b"")
    futures.finish(finished, Result(body=b"x"))
    NOW[0] = KEEP_UNCLAIMED_S + 1
    futures.expire()
    with pytest.raises(NotFoundError, match="nobody fetched"):
        await futures.wait(ADMIN, finished, 0)
    assert await futures.wait(ADMIN, running, 0.001) is None


async def test_results_beyond_the_limit_go_delivered_ones_first(futures):
    fetched, waiting = futures.open("", "a", b""), futures.open("", "b", b"")
    for request_id in (waiting, fetched):
        futures.finish(request_id, Result(body=b"x" * 60))
    await futures.wait(ADMIN, fetched, 0)
    futures.expire()
    assert (await futures.wait(ADMIN, waiting, 0)).body == b"x" * 60
    with pytest.raises(NotFoundError, match="memory"):
        await futures.wait(ADMIN, fetched, 0)


async def test_the_first_result_stays(futures):
    request_id = futures.open("", "a", b"")
    futures.finish(request_id, Result(body=b"first"))
    futures.finish(request_id, Result(body=b"second"))
    assert (await futures.wait(ADMIN, request_id, 0)).body == b"first"


async def test_closing_sends_waiting_polls_home(futures):
    waiting = asyncio.ensure_future(futures.wait(ADMIN, futures.open("", "a", b""), 60))
    await asyncio.sleep(0)
    futures.close()
    assert await asyncio.wait_for(waiting, 30) is None
