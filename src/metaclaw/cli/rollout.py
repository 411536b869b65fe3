"""``metaclaw rollout``: conversations by a script, so that there is something to learn from or to compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from metaclaw.config import Settings
    from metaclaw.processes.confinement import Confinement
    from metaclaw.rollout.conversation import Result
    from metaclaw.rollout.tasks import Task


def rollout(
    tasks: Annotated[Path, typer.Argument(help="One JSON object a line: id, messages, tools, files, verifier.")],
    concurrency: Annotated[int, typer.Option(min=1, help="Tasks at a time.")] = 4,
    attempts: Annotated[int, typer.Option(min=1, help="How often each task is tried, in sessions of its own.")] = 1,
    agent: Annotated[str | None, typer.Option(help="As which agent; else as the task says, or main.")] = None,
    model: Annotated[str, typer.Option(help="The model to ask for.")] = "metaclaw",
    no_feedback: Annotated[
        bool, typer.Option("--no-feedback", help="Do not tell the gateway what the verifiers found: no rewards.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: summary and results.")] = False,
) -> None:
    """Have scripted conversations through the running gateway, tools in a sandbox; exit code 1 if one broke off."""
    import asyncio

    from metaclaw.config_file import load_settings
    from metaclaw.identity import agent_id
    from metaclaw.processes.confinement import choose_confinement
    from metaclaw.rollout.running import summary_of, told
    from metaclaw.rollout.tasks import read_tasks

    read = read_tasks(tasks)
    settings = load_settings()
    confinement = choose_confinement()
    work = _work(
        settings, confinement, read, attempts=attempts, concurrency=concurrency, model=model, feedback=not no_feedback,
        agent=None if agent is None else agent_id(agent), done=(lambda result: None) if as_json else _say,
    )  # fmt: skip
    results = asyncio.run(work)
    summary = summary_of(results)
    if as_json:
        typer.echo(json.dumps({"summary": summary, "results": [told(result) for result in results]}))
    else:
        mean = "nothing was judged" if summary["mean_score"] is None else f"mean score {summary['mean_score']:+.2f}"
        runs = counted(summary["runs"], "run")
        typer.echo(f"{runs}, {summary['judged']} judged, {summary['errors']} broke off; {mean}")
    if summary["errors"]:
        raise typer.Exit(1)


async def _work(
    settings: Settings,
    confinement: Confinement,
    tasks: list[Task],
    *,
    attempts: int,
    concurrency: int,
    agent: str | None,
    model: str,
    feedback: bool,
    done: Callable[[Result], None],
) -> list[Result]:
    import secrets

    from metaclaw.errors import ConfigError
    from metaclaw.processes.instance import running_instance
    from metaclaw.processes.sandbox import Sandbox
    from metaclaw.rollout.conversation import Runner
    from metaclaw.rollout.gateway_client import GatewayClient
    from metaclaw.rollout.running import run_tasks
    from metaclaw.upstreams.session import new_session

    instance = running_instance(settings.home)
    if instance is None or not instance.url:
        raise ConfigError("no gateway runs on this home: `metaclaw start` starts it")
    token = settings.proxy.api_key.get_secret_value()
    async with new_session() as session:
        runner = Runner(
            model=GatewayClient(session, url=instance.url, token=token, model=model),
            sandbox=Sandbox(confinement=confinement, hidden=(settings.home,)),
            agent=agent,
            gives_feedback=feedback,
        )
        return await run_tasks(
            runner, tasks, attempts=attempts, concurrency=concurrency, new_id=lambda: secrets.token_hex(8), done=done
        )


def _say(result: Result) -> None:
    score = "-" if result.score is None else f"{result.score:+.2f}"
    why = result.error or "; ".join(one.verdict.why for one in result.exchanges if one.verdict and one.verdict.why)
    took = f"{counted(result.turns, 'turn')}\t{counted(result.tool_calls, 'call')}"
    typer.echo(f"{result.task}\t{score}\t{result.ending}\t{took}\t{why}".rstrip())
