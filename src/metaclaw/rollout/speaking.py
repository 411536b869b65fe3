"""One message to the model and all that it makes of it.

Owns the loop of answers and tool calls; refuses to know why the message is said and who judges the answer. Invariant:
the answers go back into the conversation as they came, since the gateway finds the tokens of a policy's earlier answers
by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from metaclaw.rollout.gateway_client import Answer
from metaclaw.rollout.tools import Tools

Json = dict[str, Any]


class Asked(Protocol):
    """The slice of ``GatewayClient`` that is used."""

    async def ask(
        self, messages: Sequence[Json], tools: Sequence[Json], *, session: str, agent: str | None
    ) -> Answer: ...


class Tally(Protocol):
    """Where it is counted what the model did, whatever comes in between."""

    turns: int
    tool_calls: int
    tokens: int


@dataclass(slots=True, kw_only=True)
class Said:
    """What the model said last to a message: the gateway's name of that turn, and its text."""

    turn: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Speaks in one session."""

    model: Asked
    tools: Tools
    session: str
    agent: str | None

    async def exchange(self, messages: list[Json], said: Said, tally: Tally, *, max_turns: int) -> bool:
        """Let the model answer ``messages`` until it calls no tool; all of that is appended to them.

        Returns whether it came to an end before the tally's turns were ``max_turns``. Raises ``GatewayError``, and
        ``SandboxError`` when nothing can be run.
        """
        while tally.turns < max_turns:
            answer = await self.model.ask(messages, self.tools.definitions, session=self.session, agent=self.agent)
            tally.turns += 1
            tally.tokens += answer.tokens
            said.turn, said.answer = answer.turn, answer.text
            messages.append(answer.message)
            if not answer.calls:
                return True
            for call_id, function in answer.calls:
                tally.tool_calls += 1
                result = await self.tools.call(function.name, function.arguments)
                messages.append({"role": "tool", "tool_call_id": call_id, "content": result})
        return False
