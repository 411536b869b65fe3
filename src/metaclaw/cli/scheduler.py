"""``metaclaw scheduler`` and ``metaclaw train-step``: when training runs, and running it now."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.config import Settings
    from metaclaw.learner.windows.conditions import Verdict
    from metaclaw.learner.windows.state_file import WindowState

app = typer.Typer(help="When training runs: while you sleep, are idle, or in a meeting.", no_args_is_help=True)
_AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]
_POLL_S = 0.2
_MARKS = {True: "yes", False: "no", None: "-"}


@app.command("status")
def status(as_json: _AsJson = False) -> None:
    """What training is doing, whether a window is open and why, and each condition."""
    from metaclaw.config_file import load_settings

    settings = _as_running(load_settings())
    told = _told(settings, *_found(settings))
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(headline(told))
    for condition in told["conditions"]:
        until = f" (until {_clock(condition['until'])})" if condition["until"] else ""
        typer.echo(f"  {condition['name']:<9} {_MARKS[condition['is_met']]:<4} {condition['says']}{until}")
    if not told["is_open"]:
        typer.echo(_next(told))


@app.command("next-window")
def next_window(as_json: _AsJson = False) -> None:
    """When training may begin next, as far as that is known."""
    from metaclaw.config_file import load_settings

    settings = _as_running(load_settings())
    told = _told(settings, *_found(settings))
    kept = ("in_windows", "is_open", "closes_at", "next_at", "idle_at")
    typer.echo(json.dumps({key: told[key] for key in kept}) if as_json else _next(told))


@app.command("login")
def login() -> None:
    """Let MetaClaw see in Google Calendar when you are busy: opens your browser once."""
    from metaclaw.config_file import load_settings
    from metaclaw.errors import ConfigError
    from metaclaw.learner.windows.assembly import google

    settings = load_settings()
    client = settings.scheduler.calendar.credentials_path
    if client is None:
        raise ConfigError(
            "scheduler.calendar.credentials_path is empty: make an OAuth client of the kind 'Desktop app' in Google's "
            "cloud console, and write where its JSON file lies"
        )
    google(settings).log_in(settings.home / client.expanduser(), settings.calendar_token)
    typer.echo(f"the token is in {settings.calendar_token}; `metaclaw config scheduler.calendar.enabled true` uses it")


def train_step(
    agent: Annotated[str, typer.Option(help="Whose policy to train; default whoever has enough.")] = "*",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for it.")] = 600.0,
    as_json: _AsJson = False,
) -> None:
    """Train now, in every mode that trains and whether a window is open or not; exit code 1 when it fails."""
    from metaclaw.config_file import load_settings
    from metaclaw.errors import ConfigError
    from metaclaw.identity import agent_id
    from metaclaw.journal.train_steps import EVERY_AGENT, TrainSteps
    from metaclaw.processes.instance import running_instance

    settings = _as_running(load_settings())
    instance = running_instance(settings.home)
    if (why := settings.why_untrained) is not None:
        raise ConfigError(why)
    if instance is None or instance.children.get("learner") is None:
        raise ConfigError("nobody is there to train: `metaclaw start` starts it")
    steps = TrainSteps(settings.requests_db)
    now, until = time.time(), time.monotonic() + timeout
    number = steps.ask(agent if agent == EVERY_AGENT else agent_id(agent), now=now, until=now + timeout)
    while (answer := steps.answered(number)) is None and time.monotonic() < until:
        time.sleep(_POLL_S)
    if answer is None:
        _fail({"status": "error", "agent": agent, "reason": f"no answer within {timeout:g} s"}, as_json)
    elif answer.status == "error":
        _fail(answer.model_dump(), as_json)
    elif as_json:
        typer.echo(answer.model_dump_json())
    else:
        rewards = ""
        if answer.samples is not None:
            rewards = f" ({counted(answer.samples, 'sample')}, mean reward {answer.mean_reward:+.2f})"
        typer.echo(f"{_whose(answer.agent)}{answer.status}: {answer.reason}{rewards}")


def headline(told: dict[str, Any]) -> str:
    """One line on what training is doing and why."""
    if told["trouble"]:
        return "training: " + told["trouble"]
    if not told["in_windows"]:
        return "training: " + told["why"]
    agent = f" {told['agent']}" if told["agent"] else ""
    asked = ", as asked for," if told["is_asked"] else ""
    if told["state"] == "stopped":
        return "; ".join(["training: no learner runs (`metaclaw start`)", *filter(None, [told["why"]])])
    since = f" since {_clock(told['since'])}" if told["since"] else ""
    return f"training: {told['state']}{agent}{asked}{since}: {told['why']}"


def facts(settings: Settings) -> dict[str, Any]:
    """What the running learner says of training."""
    settings = _as_running(settings)
    state = _running_state(settings)
    return _told(settings, state, state.verdict if state else None)


def _fail(told: dict[str, Any], as_json: bool) -> None:
    text = json.dumps(told) if as_json else f"{_whose(told['agent'])}{told['reason']}"
    typer.echo(text, err=not as_json)
    raise typer.Exit(1)


def _whose(agent: str) -> str:
    from metaclaw.journal.train_steps import EVERY_AGENT

    return "" if agent == EVERY_AGENT else f"{agent}: "


def _as_running(settings: Settings) -> Settings:
    from metaclaw.processes.instance import running_instance

    instance = running_instance(settings.home)
    return settings.model_copy(update={"mode": instance.mode}) if instance and instance.mode else settings


def _found(settings: Settings) -> tuple[WindowState | None, Verdict | None]:
    """What the learner says; where none runs, how things stand all the same."""
    import asyncio

    state = _running_state(settings)
    if state is not None and state.verdict is not None:
        return state, state.verdict
    return None, asyncio.run(_looked(settings)) if settings.trains_in_windows else None


async def _looked(settings: Settings) -> Verdict:
    from metaclaw.learner.windows.assembly import looking_for
    from metaclaw.upstreams.session import new_session

    async with new_session() as session:
        looking, calendar = looking_for(settings, session)
        try:
            if calendar is not None:
                await calendar.refresh()
            return await looking.look(was_open=False)
        finally:
            await looking.close()


def _running_state(settings: Settings) -> WindowState | None:
    from metaclaw.learner.windows.state_file import read_state
    from metaclaw.processes.instance import running_instance

    instance, state = running_instance(settings.home), read_state(settings.scheduler_state)
    is_its = instance is not None and state is not None and state.pid == instance.children.get("learner")
    return state if is_its else None


def _learner_runs(settings: Settings) -> bool:
    from metaclaw.processes.instance import running_instance

    instance = running_instance(settings.home)
    return instance is not None and instance.children.get("learner") is not None


def _told(settings: Settings, state: WindowState | None, verdict: Verdict | None) -> dict[str, Any]:
    from dataclasses import asdict

    in_windows = settings.trains_in_windows
    trouble = settings.why_untrained if settings.trains and _learner_runs(settings) else None
    return {
        "mode": settings.mode,
        "in_windows": in_windows,
        "state": state.state if state else "stopped",
        "since": state.since if state else None,
        "agent": state.agent if state else None,
        "is_asked": bool(state and state.is_asked),
        "trouble": trouble,
        "why": (verdict.why if verdict else "") if in_windows else _without_windows(settings),
        "is_open": bool(verdict and verdict.is_open) if in_windows else _at_any_time(settings),
        "closes_at": verdict.closes_at if verdict else None,
        "next_at": verdict.next_at if verdict else None,
        "idle_at": verdict.idle_at if verdict else None,
        "conditions": [asdict(condition) for condition in verdict.conditions] if verdict else [],
    }


def _at_any_time(settings: Settings) -> bool:
    return settings.mode != "skills_only" and not settings.rl.update.when_asked_only


def _without_windows(settings: Settings) -> str:
    if settings.mode == "skills_only":
        return "mode skills_only trains nothing"
    if settings.rl.update.when_asked_only:
        return "nothing is trained before somebody asks for it: `metaclaw train-step` (rl.update.when_asked_only)"
    return f"mode {settings.mode} trains whenever enough was judged, at any time"


def _next(told: dict[str, Any]) -> str:
    if not told["in_windows"]:
        return told["why"]
    if told["is_open"]:
        end = f"until {_clock(told['closes_at'])}" if told["closes_at"] else "for as long as nobody is there"
        return f"a window is open now, {end}"
    scheduled = f"next window: {_clock(told['next_at'])}" if told["next_at"] else "no window is scheduled"
    return f"{scheduled}, or {_clock(told['idle_at'])} if nobody is there from now on" if told["idle_at"] else scheduled


def _clock(moment: float) -> str:
    from datetime import datetime

    when, today = datetime.fromtimestamp(moment).astimezone(), datetime.now().astimezone()
    return when.strftime("%H:%M" if when.date() == today.date() else "%a %H:%M")
