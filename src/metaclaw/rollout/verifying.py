"""Whether a task was done well.

Owns how a verifier's verdict is read; refuses to know conversations. Invariant: a verifier that could not say (it was
killed, printed no number, ended with a status that means neither) gives no score: never 0, and never a failure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from metaclaw.processes.sandbox import Outcome, Sandbox
from metaclaw.rollout.tasks import Files, Verifier

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
_MAX_SAID = 200
PASSED, FAILED = 1.0, -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``score`` is from -1 to 1, ``None`` where nobody can say; then ``why`` says why."""

    score: float | None
    why: str = ""


async def verdict_of(verifier: Verifier, *, answer: str, sandbox: Sandbox, folder: Path) -> Verdict:
    """What ``verifier`` says of ``folder`` and of the last ``answer``. Raises ``SandboxError``."""
    if verifier.contains:
        return Verdict(score=PASSED if verifier.contains in answer else FAILED)
    checking = replace(sandbox, limits=replace(sandbox.limits, time_s=verifier.timeout_s))
    if (problem := await lay(verifier.files, checking, folder)) is not None:
        return Verdict(score=None, why=problem)
    outcome = await checking.run(
        ["/bin/sh", "-c", verifier.command], stdin=answer.encode("utf-8", "backslashreplace"), work=folder
    )
    return _graded(outcome) if verifier.graded else _passed(outcome)


async def lay(files: Files, sandbox: Sandbox, folder: Path) -> str | None:
    """Put ``files`` into ``folder``; what was wrong, if something was.

    Done in the sandbox, because a link that a model made in the folder could point to anywhere, and what is in the way
    is removed first.
    """
    script = 'rm -rf -- "$1"; case "$1" in */*) mkdir -p -- "${1%/*}" || exit 1;; esac; exec cat > "$1"'
    for name, content in files.items():
        outcome = await sandbox.run(
            ["/bin/sh", "-c", script, "sh", f"./{name}"], stdin=content.encode("utf-8", "replace"), work=folder
        )
        if outcome.status != 0:
            return f"{name} could not be laid into the task's folder{_said(outcome)}"
    return None


def _passed(outcome: Outcome) -> Verdict:
    if outcome.status == 0:
        return Verdict(score=PASSED)
    if outcome.status == 1:
        return Verdict(score=FAILED, why=_said(outcome).removeprefix(": "))
    return _broken(outcome)


def _graded(outcome: Outcome) -> Verdict:
    if outcome.status != 0:
        return _broken(outcome)
    printed = outcome.stdout.decode("utf-8", "replace").strip()
    if not _NUMBER.fullmatch(printed) or not -1 <= float(printed) <= 1:
        return Verdict(score=None, why=f"the verifier printed {printed!r:.80}, not one number from -1 to 1")
    return Verdict(score=float(printed))


def _broken(outcome: Outcome) -> Verdict:
    how = f"ended with status {outcome.status}" if outcome.ending == "exit" else f"took too much {outcome.ending}"
    return Verdict(score=None, why=f"the verifier {how}{_said(outcome)}")


def _said(outcome: Outcome) -> str:
    lines = (outcome.stderr or outcome.stdout).decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1][:_MAX_SAID]}" if lines else ""
