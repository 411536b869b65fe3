"""Settings that change while MetaClaw runs.

Owns noticing that the file changed and which of its settings are taken up at once; refuses to know what they do.
Invariant: a file that cannot be understood, or with which something could not run, or that is gone, changes nothing and
is said; and what is taken up is never half of a file: nobody wrote it between two looks, nor while it was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from metaclaw.config import Settings
from metaclaw.config_file import config_path
from metaclaw.errors import ConfigError, MetaClawError
from metaclaw.processes.models import require_model
from metaclaw.processes.supervisor import Report

_POLL_S = 0.25
_AT_ONCE = ("mode", "llm", "openrouter", "journal", "agents")

Stamp = tuple[int, int, int]


async def keep_settings(
    settings: Settings,
    *,
    reread: Callable[[], Settings],
    take_up: Callable[[Settings], None],
    note_trouble: Callable[[str], None],
    report: Report,
) -> None:
    """Watch the file until cancelled; what can be taken up of a change is, and the rest is named.

    ``note_trouble`` hears why the file as it is was not taken up, or an empty text when it was.
    """
    known = seen = await asyncio.to_thread(_stamp, settings.home)
    while True:
        await asyncio.sleep(_POLL_S)
        before, seen = seen, await asyncio.to_thread(_stamp, settings.home)
        if seen == known or seen != before:  # an editor may be in the middle of it
            continue
        known = seen
        try:
            wanted = await asyncio.to_thread(_read, settings.home, reread, known)
            if wanted is None:
                continue
            require_model(wanted)
            changed = live(settings, wanted)
        except (MetaClawError, OSError) as error:
            note_trouble(str(error))
            report(f"config.yaml is NOT taken up, the settings of before stay in force: {error}")
            continue
        note_trouble("")
        if changed != settings:
            settings = changed
            take_up(settings)
            report(f"config.yaml is taken up: {modes(settings)}")
        if later := _later(settings, wanted):
            report(f"these changes of config.yaml count from the next start on: {', '.join(later)}")


def live(settings: Settings, wanted: Settings) -> Settings:
    """``settings`` with what of ``wanted`` can be taken up at once: modes, models, retention, agents."""
    changed = settings.model_copy(update={name: getattr(wanted, name) for name in _AT_ONCE})
    if changed.trains and not settings.trains and changed.rl.is_cloud:
        raise ConfigError(
            "what samples in a training cloud (rl.backend) is started with MetaClaw alone: start it again"
        )
    try:
        changed = Settings.model_validate({**changed.model_dump(), "home": settings.home})
        require_model(changed)
        return changed
    except (ValidationError, ConfigError):  # `from None`: pydantic's text may hold a secret
        raise ConfigError("it fits the new settings as a whole, not those of before: start again") from None


def waits_for_a_start(name: str) -> bool:
    """Whether a program that runs goes on with what it has of the setting ``name`` until it is started again."""
    first = name.partition(".")[0]
    return first not in (*_AT_ONCE, "train_server")  # the training server is nobody's child: it is not known to run


def modes(settings: Settings) -> str:
    """Who is in which mode, in a few words."""
    own = [f"{agent} {settings.mode_of(agent)}" for agent in settings.agents.named]
    return ", ".join([f"mode {settings.mode}", *own])


def _later(settings: Settings, wanted: Settings) -> list[str]:
    names = [name for name in Settings.model_fields if name not in (*_AT_ONCE, "home", "proxy")]
    later = [name for name in names if getattr(settings, name) != getattr(wanted, name)]
    # 0 asks for any free port, and we have one.
    port = wanted.proxy.port or settings.proxy.port
    if settings.proxy != wanted.proxy.model_copy(update={"port": port}):
        later.append("proxy")
    return later


def _read(home: Path, reread: Callable[[], Settings], stamp: Stamp | None) -> Settings | None:
    """What the file says that had ``stamp``; ``None`` if it has another one by now: then somebody writes it."""
    if stamp is None:
        raise ConfigError("it is not there any more")
    wanted = reread()
    return wanted if _stamp(home) == stamp else None


def _stamp(home: Path) -> Stamp | None:
    try:
        status = config_path(home).stat()  # found anew each time: a link may lead elsewhere by now
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
