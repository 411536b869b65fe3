"""``metaclaw start --daemon``: the same, detached, once it answers.

Owns the detached process and its log; refuses to know what runs in it. Invariant: when this returns the gateway has
answered and the learner, if it said anything in time, has taken its settings; when it raises nothing of ours is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from metaclaw.errors import ConfigError, ProcessError
from metaclaw.processes.instance import DRAIN_S, Instance, is_healthy, may_yet_refuse, running_instance
from metaclaw.processes.supervisor import EXIT_BAD_SETTINGS, SAID_ABOVE

READY_S = DRAIN_S + 15.0  # it may have to wait for the children of a killed instance first
_LEARNER_S = 15.0  # what a learner on a busy machine imports takes seconds; the gateway answers, so nobody waits longer
_POLL_S = 0.1


def start(home: Path, flags: Sequence[str], log_file: Path) -> Instance:
    """Start MetaClaw on ``home`` in the background and wait until it answers.

    Raises ``ProcessError`` (``ConfigError`` where the settings are at fault) with what the log says last.
    """
    log_file = log_file.expanduser().absolute()
    log_file.parent.mkdir(parents=True, exist_ok=True)
    child = _spawn(home, flags, log_file)
    deadline = time.monotonic() + READY_S
    answered: Instance | None = None
    while time.monotonic() < deadline:
        if child.poll() is not None:
            error = ConfigError if child.returncode == EXIT_BAD_SETTINGS else ProcessError
            raise error(f"{reason(log_file)} (log: {log_file})")
        instance = running_instance(home)
        if instance is not None and instance.pid == child.pid and is_healthy(instance.url):
            if not may_yet_refuse(home, instance):
                return instance
            if answered is None:
                answered, deadline = instance, time.monotonic() + _LEARNER_S
        time.sleep(_POLL_S)
    if answered is not None:
        return answered
    child.terminate()
    child.wait()
    raise ProcessError(f"the gateway did not answer within {READY_S:.0f} s: {reason(log_file)} (log: {log_file})")


def _spawn(home: Path, flags: Sequence[str], log_file: Path) -> subprocess.Popen[bytes]:
    handle = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "metaclaw.cli.main", "start", *flags],
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            env={**os.environ, "METACLAW_HOME": str(home)},
            start_new_session=True,
        )
    finally:
        os.close(handle)


def reason(log_file: Path) -> str:
    """The last line of the log; where that points at what a program wrote before it, with what that says.

    Others write in between: all of them start at once.
    """
    written = log_file.read_text(encoding="utf-8", errors="replace").split("\n")
    lines = [line.removeprefix("metaclaw: ") for line in written if line.strip()]
    if not lines:
        return "it wrote nothing"
    said, pointer, _ = lines[-1].partition(SAID_ABOVE)
    if not pointer or len(lines) == 1:
        return lines[-1]
    program = said.split()[1]  # "the gateway refused ..."
    own = (words for line in reversed(lines[:-1]) if (words := _words_of(program, line)) is not None)
    return f"{said}: {next(own, lines[-2])}"


def _words_of(program: str, line: str) -> str | None:
    """What ``line`` says, if it is of ``program``."""
    prefix = f"metaclaw {program}: "
    if line.startswith(prefix):
        return line.removeprefix(prefix)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        entry = json.loads(line)
        return str(entry["message"]) if entry["process"] == program else None
    return None
