"""Running a program's own commands.

Owns that they end, and what is said when they fail; refuses to show what they were given in secret.
"""

from __future__ import annotations

import subprocess

from metaclaw.agents.program import Command, Machine
from metaclaw.errors import WiringError

_LIMIT_S = 120.0


def run(command: Command, machine: Machine) -> None:
    """Run one command to its end. Raises ``WiringError`` with what it said."""
    line = " ".join(command.argv)
    try:
        done = subprocess.run(
            command.argv, env={**machine.env, **command.env}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_LIMIT_S, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise WiringError(f"`{line}` cannot be run: {command.argv[0]} is not on this machine's PATH") from None
    except subprocess.TimeoutExpired:
        raise WiringError(f"`{line}` has not ended within {_LIMIT_S:.0f} s") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:300]
        for secret in command.env.values():
            said = said.replace(secret, "***")
        raise WiringError(f"`{line}` failed with code {done.returncode}: {said}")
