"""The policy's tokens of its earlier answers, as long as they are remembered."""

from __future__ import annotations

import pytest

from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.gateway import policy_history
from metaclaw.gateway.policy_history import PolicyHistory
from metaclaw.journal.drawn_answers import DrawnAnswer

pytestmark = pytest.mark.anyio


class Nothing:
    """A journal without answers, which counts how often it is read."""

    num_read = 0

    async def drawn_answers(self, agent: str, session: str) -> list[DrawnAnswer]:
        self.num_read += 1
        return []


def answer(number: int) -> dict[str, str]:
    return {"role": "assistant", "content": f"answer {number}"}


async def test_what_is_kept_of_answers_and_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """PITFALLS P9: what was kept for each session was never let go."""
    monkeypatch.setattr(policy_history, "_MAX_ANSWERS", 50)
    monkeypatch.setattr(policy_history, "_MAX_SESSIONS", 20)
    kept = Nothing()
    history = PolicyHistory(kept)
    for number in range(200):
        record = {"tokens": "AAAA", "renderer": "r"}
        message = ChatAnswer(message=answer(number), finish_reason="stop", usage=None, policy_record=record)
        history.remember("main", f"s{number}", message)
        assert "token_ids" in (await history.with_tokens([answer(number)], "main", f"s{number}"))[0]
    assert len(history._known) == 50  # pyright: ignore[reportPrivateUsage]
    assert len(history._read_sessions) == 20  # pyright: ignore[reportPrivateUsage]
    # What was let go is read again from the journal, and rendered where that does not have it either.
    assert await history.with_tokens([answer(0)], "main", "s0") == [answer(0)]
    assert kept.num_read == 201
