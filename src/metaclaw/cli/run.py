"""``metaclaw start``, ``stop`` and ``status``: the gateway and the learner of this home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from metaclaw.journal.learning_status import AgentStatus
    from metaclaw.processes.instance import Instance


def start(
    mode: Annotated[str | None, typer.Option(help="skills_only, rl or auto, for this run.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the gateway, for this run.")] = None,
    daemon: Annotated[bool, typer.Option("--daemon", "-d", help="Run in the background.")] = False,
    log_file: Annotated[Path | None, typer.Option(help="With -d; default METACLAW_HOME/metaclaw.log.")] = None,
) -> None:
    """Run the gateway, and in the modes rl and auto the learner, until Ctrl-C or `metaclaw stop`."""
    from metaclaw.config_file import load_settings, require_settings
    from metaclaw.processes import background, foreground

    require_settings()
    settings = load_settings(overrides={"mode": mode, "proxy.port": port})
    if daemon:
        flags = [f"--{name}={value}" for name, value in (("mode", mode), ("port", port)) if value is not None]
        instance = background.start(settings.home, flags, log_file or settings.home / "metaclaw.log")
        typer.echo(f"MetaClaw runs on {instance.url} (pid {instance.pid}, mode {instance.mode})")
    else:
        foreground.run(settings, report=lambda what: typer.echo(f"metaclaw: {what}", err=True))


def stop() -> None:
    """End the instance of this home."""
    from metaclaw.config_file import find_home
    from metaclaw.processes.instance import stop_instance

    instance = stop_instance(find_home())
    typer.echo(f"stopped (pid {instance.pid})" if instance else "MetaClaw is not running")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Whether MetaClaw runs and answers, and what was learned; exit code 1 when it does not answer."""
    from dataclasses import asdict

    from metaclaw.config_file import find_home
    from metaclaw.journal.learning_status import read_status
    from metaclaw.processes.instance import is_healthy, running_instance

    home = find_home()
    instance = running_instance(home)
    healthy = instance is not None and is_healthy(instance.url)
    learning = read_status(home / "learning.db")
    if as_json:
        facts = asdict(instance) if instance else {}
        agents = [asdict(agent) for agent in learning]
        typer.echo(json.dumps({"running": instance is not None, "healthy": healthy, **facts, "learning": agents}))
    else:
        typer.echo(_described(instance, healthy))
        for agent in learning:
            typer.echo(_progress(agent))
    raise typer.Exit(0 if healthy else 1)


def _described(instance: Instance | None, healthy: bool) -> str:
    if instance is None:
        return "MetaClaw is not running; `metaclaw start` starts it"
    children = ", ".join(f"{name} {pid or 'NOT RUNNING'}" for name, pid in instance.children.items())
    answers = "answers" if healthy else "DOES NOT ANSWER"
    return f"MetaClaw {answers} on {instance.url}, mode {instance.mode} (pid {instance.pid}; {children})"


def _progress(agent: AgentStatus) -> str:
    serving = f"version {agent.serving}" if agent.serving else "the base model"
    failed = f" ({agent.failed} could not be)" if agent.failed else ""
    line = f"{agent.agent}: {serving} serves; {agent.judged} exchanges judged{failed}, {agent.pending} turns wait"
    last = agent.last_update
    if last is None:
        return line
    return f"{line}; update {last.id} {last.state}" + (f": {last.reason}" if last.reason else "")
