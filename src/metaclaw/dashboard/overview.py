"""How MetaClaw is: what runs, what it recorded lately, how far each agent's learning is.

Owns the facts of the first page; refuses to know HTTP. Invariant: what cannot be read is said in words, in the place
of what would have been read; the rest is shown all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from metaclaw import __version__
from metaclaw.config import Settings
from metaclaw.config_keyring import resolve_secrets
from metaclaw.errors import MetaClawError
from metaclaw.journal.days import DayOfScores, DayOfTurns, days_of_scores, days_of_turns
from metaclaw.journal.learning_status import AgentStatus, read_status
from metaclaw.learner.windows.state_file import read_state
from metaclaw.processes.instance import Instance, read_health, read_upstreams, running_instance

DAYS = 30


def overview(settings: Settings, *, trouble_in_file: str | None = None, now: float | None = None) -> dict[str, Any]:
    """The facts, ready for JSON; the days are the last ``DAYS`` with today, and times Unix seconds."""
    now = time.time() if now is None else now
    last_days = _last_days(now)
    since = last_days[0].timestamp()
    instance = running_instance(settings.home)
    troubles = [trouble_in_file] if trouble_in_file else []
    if instance and instance.settings_trouble and not trouble_in_file:
        troubles.append(f"config.yaml is not taken up: {instance.settings_trouble}")
    return {
        "version": __version__,
        "home": str(settings.home),
        "at": now,
        "instance": None if instance is None else asdict(instance),
        "health": read_health(instance.url) if instance and instance.url else None,
        "upstreams": _upstreams(settings, instance),
        "training": _training(settings, instance),
        "modes": {"": settings.mode} | {name: settings.mode_of(name) for name in settings.agents.named},
        "learning": _or_trouble(troubles, lambda: read_status(settings.learning_db)),
        "last_days": [day.date().isoformat() for day in last_days],  # not the browser's, which may be far away
        "days": _or_trouble(troubles, lambda: days_of_turns(settings.turns_db, since=since)),
        "scores": _or_trouble(troubles, lambda: days_of_scores(settings.learning_db, since=since)),
        "troubles": list(dict.fromkeys(troubles)),
    }


def _last_days(now: float) -> list[datetime]:
    """The beginnings of the days, the oldest first, by this machine's clock: some have 23 or 25 hours."""
    today = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006
    return [today - timedelta(days=back) for back in reversed(range(DAYS))]


def _or_trouble(
    troubles: list[str], read: Callable[[], Sequence[AgentStatus | DayOfTurns | DayOfScores]]
) -> list[dict[str, Any]]:
    try:
        return [asdict(one) for one in read()]
    except MetaClawError as error:
        troubles.append(str(error))
        return []


def _upstreams(settings: Settings, instance: Instance | None) -> list[dict[str, Any]]:
    """How each key of the models behind the gateway fares; none where it cannot be asked."""
    if instance is None or not instance.url:
        return []
    try:
        token = resolve_secrets(settings).proxy.api_key.get_secret_value()
    except MetaClawError:  # a keyring that is locked: the rest is shown
        return []
    return read_upstreams(instance.url, token)


def _training(settings: Settings, instance: Instance | None) -> dict[str, Any] | None:
    """What the running learner says it is doing; ``None`` where none runs, or it has said nothing yet."""
    state = read_state(settings.scheduler_state)
    if instance is None or state is None or state.pid != instance.children.get("learner"):
        return None
    told = state.model_dump(include={"state", "since", "why", "agent"})
    if state.verdict is not None and not told["why"]:
        told["why"] = state.verdict.why
    return told
