"""One task, from its first message to what its verifier said.

Owns the order of things: the user speaks, the model answers, then the user speaks again, and a verifier judges; refuses
to know where the model is. Invariant: nothing is judged that was cut off by a failure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from metaclaw.errors import MetaClawError
from metaclaw.processes.sandbox import Sandbox
from metaclaw.rollout.folders import passing_folder
from metaclaw.rollout.speaking import Asked, Said, Speaker
from metaclaw.rollout.tasks import Message, Task, Verifier
from metaclaw.rollout.tools import Tools
from metaclaw.rollout.verifying import Verdict, lay, verdict_of

Json = dict[str, Any]
Ending = Literal["finished", "turns", "error"]


class Model(Asked, Protocol):
    """The slice of ``GatewayClient`` that is used."""

    async def give_feedback(self, turn: str, score: float) -> None: ...


@dataclass(slots=True, kw_only=True)
class Exchange(Said):
    """What became of one message."""

    verdict: Verdict | None = None


@dataclass(slots=True, kw_only=True)
class Result:
    """How a task went. ``error`` and the verdicts' ``why`` say what kept it from being done or judged."""

    task: str
    attempt: int
    session: str
    ending: Ending = "finished"
    exchanges: list[Exchange] = field(default_factory=list[Exchange])
    turns: int = 0
    tool_calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    error: str | None = None

    @property
    def score(self) -> float | None:
        """The mean over the messages that were judged."""
        scores = [one.verdict.score for one in self.exchanges if one.verdict and one.verdict.score is not None]
        return sum(scores) / len(scores) if scores else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs tasks with ``model``, each in a new folder that nothing remains of."""

    model: Model
    sandbox: Sandbox
    agent: str | None = None
    gives_feedback: bool = True

    async def run(self, task: Task, *, attempt: int, session: str) -> Result:
        """Never raises for what the task, the model or the gateway did: that is in the result."""
        result, began = Result(task=task.id, attempt=attempt, session=session), time.monotonic()
        try:
            async with passing_folder("metaclaw-task-") as folder:
                await self._run(task, result, folder)
        except (MetaClawError, OSError) as error:
            result.ending, result.error = "error", str(error)
        result.seconds = round(time.monotonic() - began, 3)
        return result

    async def _run(self, task: Task, result: Result, folder: Path) -> None:
        limits = replace(self.sandbox.limits, time_s=task.limits.time_s, memory_mb=task.limits.memory_mb)
        sandbox = replace(self.sandbox, limits=limits)
        if (problem := await lay(task.files, sandbox, folder)) is not None:
            result.ending, result.error = "error", problem
            return
        tools = Tools(task.tools, sandbox, folder)
        messages = list[Json]([{"role": "system", "content": task.system}] if task.system else [])
        for said in task.messages:
            messages.append({"role": "user", "content": said.content})
            exchange = Exchange()
            result.exchanges.append(exchange)
            speaker = Speaker(model=self.model, tools=tools, session=result.session, agent=self.agent or task.agent)
            if not await speaker.exchange(messages, exchange, result, max_turns=task.max_turns):
                result.ending = "turns"
            if exchange.turn and said.verifier is not None:
                await self._judge([exchange], said.verifier, sandbox, folder)
            if result.ending != "finished":
                break
        if task.verifier is not None:
            rest = [one for one, said in zip(result.exchanges, task.messages, strict=False) if _is_unjudged(one, said)]
            await self._judge(rest, task.verifier, sandbox, folder)

    async def _judge(self, exchanges: Sequence[Exchange], verifier: Verifier, sandbox: Sandbox, folder: Path) -> None:
        """One verdict for all of ``exchanges``, which becomes their reward."""
        if not exchanges:
            return
        verdict = await verdict_of(verifier, answer=exchanges[-1].answer, sandbox=sandbox, folder=folder)
        for one in exchanges:
            one.verdict = verdict
            if self.gives_feedback and verdict.score is not None and one.turn:
                await self.model.give_feedback(one.turn, verdict.score)


def _is_unjudged(exchange: Exchange, said: Message) -> bool:
    return said.verifier is None and bool(exchange.turn)
