"""Many tasks at once.

Owns how many run together and what is said of all of them; refuses to know how one is done. Invariant: there is a
result for every task and attempt, in the order of their ends while they run and in that of the file afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from metaclaw.rollout.conversation import Result, Runner
from metaclaw.rollout.tasks import Task

Json = dict[str, Any]


async def run_tasks(
    runner: Runner,
    tasks: Sequence[Task],
    *,
    attempts: int,
    concurrency: int,
    new_id: Callable[[], str],
    done: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Each task ``attempts`` times, each time in a session of its own; ``done`` is called as each ends."""
    slots = asyncio.Semaphore(concurrency)

    async def one(task: Task, attempt: int) -> Result:
        async with slots:
            result = await runner.run(task, attempt=attempt, session=f"rollout-{new_id()}")
            done(result)
            return result

    async with asyncio.TaskGroup() as group:
        running = [group.create_task(one(task, number + 1)) for task in tasks for number in range(attempts)]
    return [task.result() for task in running]


def summary_of(results: Sequence[Result]) -> Json:
    """Counts and means over ``results``."""
    scores = [result.score for result in results if result.score is not None]
    return {
        "runs": len(results),
        "judged": len(scores),
        "errors": sum(result.ending == "error" for result in results),
        "mean_score": sum(scores) / len(scores) if scores else None,
        "success_rate": sum(score > 0 for score in scores) / len(scores) if scores else None,
        "turns": sum(result.turns for result in results),
        "tool_calls": sum(result.tool_calls for result in results),
        "tokens": sum(result.tokens for result in results),
    }


def told(result: Result) -> Json:
    """``result`` as JSON has it."""
    return {
        "task": result.task,
        "attempt": result.attempt,
        "session": result.session,
        "ending": result.ending,
        "score": result.score,
        "exchanges": [
            {
                "turn": one.turn,
                "answer": one.answer,
                "score": one.verdict.score if one.verdict else None,
                "why": one.verdict.why if one.verdict else "",
            }
            for one in result.exchanges
        ],
        "turns": result.turns,
        "tool_calls": result.tool_calls,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "error": result.error,
    }
