"""The budget of what is recalled is counted by the policy's tokenizer, where somebody counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from metaclaw.errors import UpstreamError
from metaclaw.recall import policy_tokens
from metaclaw.recall.policy_tokens import PolicyTokens
from metaclaw.recall.sizes import ESTIMATED
from tests.fakes.llm import fake_llm
from tests.gateway.policies import rl_settings
from tests.gateway.running import running_gateway
from tests.gateway.test_recall_and_identity import write_skill

pytestmark = pytest.mark.anyio

ASKED = {"messages": [{"role": "user", "content": "Write a git commit for this change"}]}


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no server that does not answer."""
    monkeypatch.setattr(policy_tokens, "PATIENCE_S", 60.0)


async def recalled(home: Path, *, tokens_per_character: float | None, max_tokens: int) -> tuple[int, int]:
    """How many skills are before the policy, and how often somebody was asked to count, in three turns."""
    write_skill(home, "git-commit", "Write git commit messages", body="Use the imperative. " * 40)
    async with fake_llm() as policy:
        if tokens_per_character is not None:
            policy.text_size = lambda text: int(len(text) * tokens_per_character)
        settings = rl_settings(home, policy, recall={"max_tokens": max_tokens})
        async with running_gateway(settings) as gateway:
            for number in range(3):
                async with gateway.post({"model": "metaclaw", **ASKED}, **{"X-Session-Id": str(number)}) as answer:
                    assert answer.status == 200
        [told] = {str(request["messages"]).count("## Skill git-commit") for request in policy.requests}
        return told, len(policy.token_counts)


async def test_the_policys_tokenizer_decides_what_fits(tmp_path: Path) -> None:
    """A block of about 1,050 characters, which is estimated at about 350 tokens."""
    assert await recalled(tmp_path / "a", tokens_per_character=1.0, max_tokens=600) == (0, 1)
    assert await recalled(tmp_path / "b", tokens_per_character=0.2, max_tokens=300) == (1, 1)


async def test_a_server_that_does_not_count_leaves_it_to_the_estimate_and_is_left_alone(tmp_path: Path) -> None:
    assert await recalled(tmp_path / "a", tokens_per_character=None, max_tokens=600) == (1, 1)
    assert await recalled(tmp_path / "b", tokens_per_character=None, max_tokens=300) == (0, 1)


class _Counter:
    """Counts letters, unless it is away or asleep."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.is_away = self.is_asleep = False

    async def token_counts(self, texts: Sequence[str]) -> list[int]:
        self.asked.append(list(texts))
        if self.is_away:
            raise UpstreamError("away")
        if self.is_asleep:
            await asyncio.Event().wait()
        return [len(text) for text in texts]


async def test_a_text_is_counted_once_and_nobody_waits_for_a_server_that_is_asleep() -> None:
    server, now = _Counter(), [0.0]
    tokens = PolicyTokens(server, lambda agent: agent == "main", clock=lambda: now[0], patience_s=0.05)
    assert (await tokens.sizes("other", ["a"])) is ESTIMATED
    assert (await tokens.sizes("main", ["one", "three"])).of("three") == 5
    assert (await tokens.sizes("main", ["three", "seven!"])).of_block(["three", "seven!"]) == 12
    assert server.asked == [["one", "three"], ["seven!"]]
    both = await asyncio.gather(tokens.sizes("main", ["4444"]), tokens.sizes("main", ["55555"]))
    assert [both[0].of("4444"), both[1].of("55555")] == [4, 5], "who asks at the same time is not told an estimate"
    server.asked.clear()
    server.is_asleep = True
    assert (await tokens.sizes("main", ["one", "new"])) is ESTIMATED
    server.is_asleep, server.is_away = False, True
    for now[0], num_asked in ((59.0, 1), (61.0, 2), (62.0, 2), (122.0, 3)):
        server.is_away = now[0] < 100
        sizes = await tokens.sizes("main", ["new"])
        assert (sizes is ESTIMATED, len(server.asked)) == (server.is_away, num_asked)
    assert (await tokens.sizes("main", ["newer"])).of("newer") == 5
