"""Turns written through the gateway's real journal, as the learner finds them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from metaclaw.chat.messages import freeze
from metaclaw.journal.turns import POLICY, NewTurn, PolicySample, TurnEnd, TurnJournal, TurnKind

SAMPLE = PolicySample(
    agent="main", version=0, model="table", prompt_tokens=b"", tokens=b"", logprobs=b"", logprobs_full=b"",
    temperature=1.0, top_p=1.0, top_k=-1, seed=None, stop_reason="stop", spans=(), renderer="r",
)  # fmt: skip


def policy_sample(
    prompt: Sequence[int] = (1, 2), tokens: Sequence[int] = (3, 4), logprobs: Sequence[float] = (-1.0, -2.0), **changes
) -> PolicySample:
    return replace(
        SAMPLE,
        prompt_tokens=np.asarray(prompt, "<i4").tobytes(),
        tokens=np.asarray(tokens, "<i4").tobytes(),
        logprobs=np.asarray(logprobs, "<f4").tobytes(),
        logprobs_full=np.asarray(logprobs, "<f4").tobytes(),
        **changes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One turn to record; ``closed_at`` of ``None`` leaves it open, without a ``sample`` another model answered."""

    turn: str
    exchange: str
    session: str = "s"
    agent: str = "main"
    human: str = "hello"
    answer: str = "hi"
    history: tuple[dict, ...] = ()
    finish_reason: str = "stop"
    state: str = "done"
    opened_at: float = 0.0
    closed_at: float | None = 0.0
    sample: PolicySample | None = field(default_factory=policy_sample)
    kind: TurnKind = "main"
    user: str | None = None
    workspace: str | None = None
    memory_scope: str | None = None
    recalled: tuple[str, ...] = ()
    dialect: str = "openai.chat"
    request: dict = field(default_factory=dict)
    calls: tuple[dict, ...] = ()
    messages: tuple[dict, ...] | None = None  # all of them, rather than ``history`` and ``human``


async def record(journal: TurnJournal, *turns: Said) -> None:
    for said in turns:
        messages = said.messages or (*said.history, {"role": "user", "content": said.human})
        await journal.open_turn(
            NewTurn(
                id=said.turn,
                agent=said.agent,
                session=said.session,
                exchange=said.exchange,
                kind=said.kind,
                user=said.user,
                workspace=said.workspace,
                memory_scope=said.memory_scope,
                recalled=said.recalled,
                dialect=said.dialect,
                model="policy",
                upstream=POLICY if said.sample else "other",
                request=json.dumps(said.request),
                messages=tuple(map(freeze, messages)),
                opened_at=said.opened_at,
            )
        )
        if said.closed_at is not None:
            await journal.close_turn(
                said.turn,
                TurnEnd(
                    state=said.state,
                    closed_at=said.closed_at,
                    finish_reason=said.finish_reason,
                    status=200,
                    answer=freeze(_answer(said)),
                    sample=said.sample,
                ),
            )


def _answer(said: Said) -> dict:
    answer: dict = {"role": "assistant", "content": said.answer}
    return {**answer, "tool_calls": list(said.calls)} if said.calls else answer
