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
from collections.abc import Callable
from types import FrameType

from metaclaw.config import Settings
from metaclaw.config_file import dump_settings
from metaclaw.processes.instance import Instance, PidFile, claim_port, held_pid_file, url_of
from metaclaw.processes.live_settings import keep_settings
from metaclaw.processes.models import require_model
from metaclaw.processes.supervisor import Program, Report, Supervisor

GATEWAY = Program(name="gateway", command=(sys.executable, "-m", "metaclaw.gateway"), takes_changes=True)
LEARNER = Program(name="learner", command=(sys.executable, "-m", "metaclaw.learner"), is_essential=False)

BRIDGE = Program(
    name="bridge", command=(sys.executable, "-m", "metaclaw.bridge"), is_essential=False, takes_changes=True
)


def programs_for(settings: Settings) -> tuple[Program, ...]:
    """The gateway, the learner where there is anything to learn, and the bridge where a policy lives in a cloud.

    There is something to learn in every mode, unless all of it is off."""
    learns = settings.trains or settings.skills.enabled or settings.memory.enabled
    return (GATEWAY, *((LEARNER,) if learns else ()), *((BRIDGE,) if needs_bridge(settings) else ()))


def needs_bridge(settings: Settings) -> bool:
    """Whether some agent's policy is sampled in a training cloud."""
    return settings.trains and settings.rl.is_cloud


def run(settings: Settings, *, report: Report, reread: Callable[[], Settings] | None = None) -> None:
    """Run until SIGTERM, SIGINT, or an essential program is given up (then the error is raised).

    ``reread`` says what the settings are by now; it is asked when their file changed.
    """
    require_model(settings)
    with held_pid_file(settings.home) as pid_file:
        port = claim_port(settings.proxy.host, settings.proxy.port, setting="proxy.port")
        if needs_bridge(settings):
            claim_port("127.0.0.1", settings.rl.bridge_port, setting="rl.bridge_port")
        settings = settings.model_copy(update={"proxy": settings.proxy.model_copy(update={"port": port})})
        url = url_of(settings.proxy.host, port)
        pid_file.write(Instance(pid=os.getpid(), mode=settings.mode, url=url, started_at=time.time()))
        for line in _announcements(settings, url):
            report(line)
        asyncio.run(_supervise(settings, pid_file, report, reread))
        report("stopped")


async def _supervise(
    settings: Settings, pid_file: PidFile, report: Report, reread: Callable[[], Settings] | None
) -> None:
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
    if reread is None:
        await supervisor.run()
        return

    def take_up(changed: Settings) -> None:
        supervisor.change(dump_settings(changed))
        pid_file.note_mode(changed.mode)

    def say_ended(keeping: asyncio.Task[None]) -> None:
        if not keeping.cancelled() and (error := keeping.exception()) is not None:
            report(f"changes of config.yaml count from the next start on: {type(error).__name__} while it was read")

    keeping = asyncio.create_task(
        keep_settings(
            settings, reread=reread, take_up=take_up, note_trouble=pid_file.note_settings_trouble, report=report
        )
    )
    keeping.add_done_callback(say_ended)
    try:
        await supervisor.run()
    finally:
        keeping.cancel()


def _announcements(settings: Settings, url: str) -> list[str]:
    lines = [f"starting on {url}/v1, mode {settings.mode}; Ctrl-C ends it"]
    if settings.trains and not settings.rl.judge.scores:
        lines.append("NO JUDGE: nothing is scored, so nothing is trained. Set rl.judge.verifier, or rl.judge.url")
    return lines
