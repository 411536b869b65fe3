"""A client that says that its session is done: whoever learns from it hears of it once the turn is recorded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from metaclaw.journal.ended_sessions import EndedSession, EndedSessions
from tests.fakes.llm import fake_llm
from tests.gateway.running import make_settings, running_gateway

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("remembers", [True, False])
async def test_the_learner_hears_that_a_session_is_done_after_its_last_turn_is_recorded(
    tmp_path: Path, remembers: bool
) -> None:
    """SPEC A5: the end of a session was taken out of the request, and nobody who judges heard of it."""
    ended = EndedSessions(tmp_path / "requests.db")
    settings = {"memory": {"enabled": remembers}}
    async with fake_llm() as llm, running_gateway(make_settings(tmp_path, llm_url=llm.url, **settings)) as gateway:
        for session, done in (("a", "false"), ("b", "true")):
            headers = {"X-Session-Id": session, "X-Agent-Id": "scribe", "X-Session-Done": done}
            async with gateway.post({"messages": [{"role": "user", "content": "hello"}]}, **headers) as answer:
                assert answer.status == 200
        heard = list[EndedSession]()
        async with asyncio.timeout(30):
            while not (heard := await asyncio.to_thread(ended.heard)):  # noqa: ASYNC110 - it has no event for others
                await asyncio.sleep(0.05)
        closed_at = [turn.closed_at for turn in await gateway.turns() if turn.session == "b"]
    assert [(one.agent, one.session) for one in heard] == [("scribe", "b")]
    assert closed_at[0] is not None
    assert heard[0].at >= closed_at[0]
