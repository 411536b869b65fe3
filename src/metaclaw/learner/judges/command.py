"""Judging by a command of the user's, shut in.

Owns what the command is told and how its answer is read; refuses to know how it is shut in. Invariant: a score is the
whole of what a command that succeeded wrote; whatever else it does (fails, hangs, floods, is killed) is a
``JudgeError``, never a score.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import asdict
from pathlib import Path

from metaclaw.errors import ConfigError, JudgeError
from metaclaw.learner.judges.judge import Exchange, JudgeUnavailableError, Verdict, checked_score
from metaclaw.processes.confinement import SandboxError
from metaclaw.processes.sandbox import Outcome, Sandbox

TRY_AGAIN_STATUS = 75  # sysexits.h, EX_TEMPFAIL
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL")
_MAX_SAID = 300


class CommandVerifier:
    """Like a Python verifier, but its process: it sees the exchange alone, and can reach nothing."""

    needs_followup = False

    def __init__(self, command: str, sandbox: Sandbox) -> None:
        self._command = command
        self._sandbox = sandbox
        self.name = f"command:{command[:60]}"

    async def judge(self, exchange: Exchange) -> Verdict:
        told = json.dumps(asdict(exchange), ensure_ascii=False)
        try:
            outcome = await self._sandbox.run(
                ["/bin/sh", "-c", self._command],
                stdin=told.encode("utf-8", "backslashreplace"),
                environment=_variables(),
            )
        except (SandboxError, OSError) as error:
            raise JudgeUnavailableError(f"rl.judge.command could not be run: {error}") from error
        return Verdict(score=self._read(outcome))

    def _read(self, outcome: Outcome) -> float | None:
        limits = self._sandbox.limits
        if outcome.ending != "exit":
            broken = {
                "time": f"{limits.time_s:g} s (rl.judge.timeout_s)",
                "memory": f"{limits.memory_mb} MB (rl.judge.command_memory_mb)",
                "output": f"{limits.output_bytes} bytes of output",
                "processes": f"{limits.processes} processes",
            }[outcome.ending]
            raise JudgeError(f"rl.judge.command took more than {broken}")
        if outcome.status == TRY_AGAIN_STATUS:
            raise JudgeUnavailableError(f"rl.judge.command asks to be run again later{_said(outcome)}")
        if outcome.status != 0:
            raise JudgeError(f"rl.judge.command ended with status {outcome.status}{_said(outcome)}")
        return read_answer(outcome.stdout.decode("utf-8", "replace"))


def read_answer(output: str) -> float | None:
    """The score that is all of ``output``; ``None`` for the word ``none``. Raises ``JudgeError``."""
    answer = output.strip()
    if answer == "none":
        return None
    if not _NUMBER.fullmatch(answer):
        raise JudgeError(
            f"rl.judge.command wrote {answer!r:.80}, and must write one number from -1 to 1, or none, and nothing"
            " else: anything more belongs on its standard error"
        )
    return checked_score("rl.judge.command", float(answer))


def programs_of(command: str) -> tuple[Path, ...]:
    """The files that ``command`` names by whole paths: they are shown wherever they lie. Raises ``ConfigError``."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"rl.judge.command {command!r} is not a shell command: {error}") from error
    return tuple(Path(word) for word in words if word.startswith("/") and Path(word).is_file())


def _variables() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**kept, "HOME": str(Path.home())}  # read-only in there, and without the keys in it


def _said(outcome: Outcome) -> str:
    lines = outcome.stderr.decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1][:_MAX_SAID]}" if lines else ""
