"""``metaclaw start``, ``stop`` and ``status``: the gateway and the learner of this home."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.config import Settings
    from metaclaw.journal.learning_status import AgentStatus
    from metaclaw.journal.skill_costs import SkillCosts
    from metaclaw.processes.instance import Instance


def start(
    mode: Annotated[str | None, typer.Option(help="skills_only, rl or auto, for this run.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the gateway, for this run.")] = None,
    daemon: Annotated[bool, typer.Option("--daemon", "-d", help="Run in the background.")] = False,
    log_file: Annotated[Path | None, typer.Option(help="With -d; default METACLAW_HOME/metaclaw.log.")] = None,
) -> None:
    """Run the gateway and, where there is anything to learn, the learner, until Ctrl-C or `metaclaw stop`."""
    from metaclaw.cli.agent_places import end_begun_rename
    from metaclaw.config_file import load_settings, require_settings
    from metaclaw.config_keyring import resolve_secrets
    from metaclaw.processes import background, foreground
    from metaclaw.upstreams.configured import check_upstreams

    require_settings()
    settings = load_settings(overrides={"mode": mode, "proxy.port": port})
    end_begun_rename(settings)
    if daemon:
        flags = [f"--{name}={value}" for name, value in (("mode", mode), ("port", port)) if value is not None]
        instance = background.start(settings.home, flags, log_file or settings.home / "metaclaw.log")
        typer.echo(f"MetaClaw runs on {instance.url} (pid {instance.pid}, mode {instance.mode})")
    else:

        def reread() -> Settings:
            changed = resolve_secrets(load_settings(overrides={"mode": mode, "proxy.port": port}))
            check_upstreams(changed)
            return changed

        settings = resolve_secrets(settings)
        foreground.run(settings, report=_report, reread=reread)


def _report(what: str) -> None:
    with contextlib.suppress(OSError):  # its terminal was closed, or who read its output is gone: it serves on
        typer.echo(f"metaclaw: {what}", err=True)


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

    from metaclaw.cli.day_spending import spent_lines
    from metaclaw.cli.scheduler import facts, headline
    from metaclaw.cli.skill_costs import cost_line
    from metaclaw.cli.upstream_lines import upstream_lines, upstreams_of
    from metaclaw.config_file import find_home, read_settings
    from metaclaw.errors import ConfigError
    from metaclaw.processes.instance import read_health, running_instance

    home = find_home()
    instance = running_instance(home)
    health = read_health(instance.url) if instance else None
    healthy = health is not None
    mode = instance.mode if instance else None  # of this run; a flag may have said it
    try:
        settings = read_settings(home, overrides={"mode": mode or None})[0]
        trouble_in_file = instance and instance.settings_trouble and f"not taken up: {instance.settings_trouble}"
    except ConfigError as error:  # what runs goes on with the settings that it has
        settings, trouble_in_file = None, str(error)
    training = facts(settings) if settings and instance and instance.mode and settings.trains else None
    agents_apart = _agents_apart(settings) if settings else {}
    learning, costs, spent, trouble_in_learning = _learned(home, settings if instance else None)
    upstreams = upstreams_of(settings, instance.url) if settings and instance and healthy else []
    if as_json:
        said = asdict(instance) if instance else {}
        agents = [asdict(agent) for agent in learning]
        state = {"running": instance is not None, "healthy": healthy, **said, "recording": health}
        typer.echo(
            json.dumps(
                {
                    **state,
                    "training": training,
                    "agents": agents_apart,
                    "upstreams": upstreams,
                    "learning": agents,
                    "learning_trouble": trouble_in_learning,
                    "skills": costs and asdict(costs),
                    "judging": spent.get("judging"),
                    "teaching": spent.get("teaching"),
                }
            )
        )
    else:
        typer.echo(_described(instance, healthy))
        if trouble := _recording_trouble(health or {}):
            typer.echo(trouble)
        for line in upstream_lines(upstreams):
            typer.echo(line)
        if training:
            typer.echo(headline(training))
        if trouble_in_file:
            typer.echo(f"CONFIGURATION: {trouble_in_file}")
        if trouble_in_learning:
            typer.echo(f"LEARNING: {trouble_in_learning}")
        for agent, own in agents_apart.items():
            typer.echo(f"{agent}: {', '.join(f'{what} {value}' for what, value in own.items() if value is not None)}")
        for agent in learning:
            typer.echo(_progress(agent, is_trained=settings is None or settings.is_trained(agent.agent)))
        for line in filter(None, (*spent_lines(spent), costs and cost_line(costs))):
            typer.echo(line)
    raise typer.Exit(0 if healthy else 1)


def _learned(
    home: Path, settings: Settings | None
) -> tuple[list[AgentStatus], SkillCosts | None, dict[str, Any], str | None]:
    """Each agent's progress, what skills cost, what was spent today where something runs; and why they are not known.

    A ``learning.db`` that cannot be read is one more thing that a person looks here for.
    """
    from metaclaw.cli.day_spending import spent_today
    from metaclaw.errors import JournalError
    from metaclaw.journal.learning_status import read_status
    from metaclaw.journal.skill_costs import skill_costs

    path = home / "learning.db"
    try:
        spent = spent_today(settings.rl, path) if settings else {}
        return read_status(path), skill_costs(path), spent, None
    except JournalError as error:
        return [], None, {}, str(error)


def _agents_apart(settings: Settings) -> dict[str, dict[str, Any]]:
    """What agents use that have settings of their own."""
    told: dict[str, dict[str, Any]] = {}
    for agent, own in settings.agents.named.items():
        is_trained = settings.is_trained(agent)
        model = (own.llm.model_id or own.llm.api_base or own.llm.provider) if own.has_own_model else None
        told[agent] = {
            "mode": settings.mode_of(agent),
            "rank": (own.lora.rank or settings.rl.lora_rank) if is_trained else None,
            "model": model,
            "skills": str(settings.own_skills_dirs[agent]) if agent in settings.own_skills_dirs else None,
        }
    return told


def _described(instance: Instance | None, healthy: bool) -> str:
    if instance is None:
        return "MetaClaw is not running; `metaclaw start` starts it"
    children = ", ".join(f"{name} {pid or 'NOT RUNNING'}" for name, pid in instance.children.items())
    answers = "answers" if healthy else "DOES NOT ANSWER"
    return f"MetaClaw {answers} on {instance.url}, mode {instance.mode} (pid {instance.pid}; {children})"


def _recording_trouble(health: dict[str, Any]) -> str | None:
    """What is wrong with recording; ``None`` when nothing is, or was since the start."""
    failures, lost = health.get("recording_failures", 0), health.get("records_lost", 0)
    records, size_mb = health.get("spool_records", 0), health.get("spool_bytes", 0) / 1e6
    waiting = f"{counted(records, 'record')} ({size_mb:.1f} MB)"
    if held := health.get("records_in_memory", 0):
        waiting += f", {held} of them in memory alone, lost if MetaClaw ends before there is room on the disk"
    if health.get("journal") == "failing":
        return f"RECORDING: turns.db cannot be written (see the log); in the spool until it can be: {waiting}"
    if failures or lost:
        said = f"RECORDING: {counted(failures, 'failure')} since the start (see the log)"
        said += f", {counted(lost, 'record')} lost"
        return f"{said}; in the spool: {waiting}" if records else said
    return None


def _progress(agent: AgentStatus, *, is_trained: bool) -> str:
    failed = f" ({agent.failed} could not be)" if agent.failed else ""
    judged = f"{counted(agent.judged, 'exchange')} judged{failed}"
    if not is_trained:  # whatever it learned before: it is answered by `llm`, and no turn of its waits
        return f"{agent.agent}: {judged}"
    serving = f"version {agent.serving}" if agent.serving else "the base model"
    line = f"{agent.agent}: {serving} serves; {judged},"
    line += f" {counted(agent.pending, 'turn')} {'waits' if agent.pending == 1 else 'wait'}"
    last = agent.last_update
    if last is None:
        return line
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(last.finished_at or last.started_at))
    return f"{line}; update {last.id} {last.state} at {when}" + (f": {last.reason}" if last.reason else "")
