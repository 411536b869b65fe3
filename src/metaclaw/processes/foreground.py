"""``metaclaw start`` in the foreground: which programs a mode needs, supervised until a signal.

Owns the two child commands and the signals; refuses to know prompts and printing. Invariant: what cannot work (no
model, a port that is taken, another instance) is refused before any child starts.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from types import FrameType

from metaclaw.config import Settings
from metaclaw.config_file import dump_settings
from metaclaw.errors import ConfigError
from metaclaw.processes.instance import Instance, PidFile, claim_port, held_pid_file, url_of
from metaclaw.processes.supervisor import Program, Report, Supervisor

GATEWAY = Program(name="gateway", command=(sys.executable, "-m", "metaclaw.gateway"))
LEARNER = Program(name="learner", command=(sys.executable, "-m", "metaclaw.learner"), is_essential=False)


def programs_for(settings: Settings) -> tuple[Program, ...]:
    """The gateway, and the learner where there is anything to learn: in every mode, unless all of it is off."""
    learns = settings.trains or settings.skills.enabled or settings.memory.enabled
    return (GATEWAY, LEARNER) if learns else (GATEWAY,)


def require_model(settings: Settings) -> None:
    """Refuse settings with which no request could be answered."""
    asks_models = [agent for agent in settings.agents.named if not settings.is_trained(agent)]
    without = [agent for agent in asks_models if not settings.agents.of(agent).has_own_model]
    if not settings.llm.api_base and (settings.mode == "skills_only" or without):
        whose = "" if settings.mode == "skills_only" else f" by the agent {without[0]!r}"
        raise ConfigError(f"llm.api_base is not set, so there is no model to ask{whose}; run `metaclaw setup`")
    if settings.trains and not settings.rl.model:
        mode = next(mode for mode in sorted(settings.modes, reverse=True) if mode != "skills_only")
        raise ConfigError(f"mode {mode!r} needs rl.model, the base model that is trained; run `metaclaw setup`")


def run(settings: Settings, *, report: Report) -> None:
    """Run until SIGTERM, SIGINT, or an essential program is given up (then the error is raised)."""
    require_model(settings)
    with held_pid_file(settings.home) as pid_file:
        port = claim_port(settings.proxy.host, settings.proxy.port, setting="proxy.port")
        settings = settings.model_copy(update={"proxy": settings.proxy.model_copy(update={"port": port})})
        url = url_of(settings.proxy.host, port)
        pid_file.write(Instance(pid=os.getpid(), mode=settings.mode, url=url, started_at=time.time()))
        for line in _announcements(settings, url):
            report(line)
        asyncio.run(_supervise(settings, pid_file, report))
        report("stopped")


async def _supervise(settings: Settings, pid_file: PidFile, report: Report) -> None:
    supervisor = Supervisor(
        programs_for(settings),
        dump_settings(settings),
        report=report,
        on_change=pid_file.note_children,
        inherited_fds=(pid_file.shared_fd,),
    )
    loop = asyncio.get_running_loop()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(supervisor.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    await supervisor.run()


def _announcements(settings: Settings, url: str) -> list[str]:
    lines = [f"starting on {url}/v1, mode {settings.mode}; Ctrl-C ends it"]
    judge = settings.rl.judge
    if settings.trains and not (judge.verifier or judge.url):
        lines.append("NO JUDGE: nothing is scored, so nothing is trained. Set rl.judge.verifier, or rl.judge.url")
    return lines
