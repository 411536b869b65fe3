"""Child programs for the tests: a few lines of Python each, run for real."""

from __future__ import annotations

import sys
from pathlib import Path

from metaclaw.processes.supervisor import Program

# Writes down its settings and its arguments, then lives until its input ends, as our programs do.
OBEDIENT = """
import os, sys
line = sys.stdin.readline()
with open({log!r}, "a") as log: log.write(f"{{os.getpid()}} {{sys.argv}} {{line}}")
sys.stdin.read()
with open({log!r}, "a") as log: log.write("ended by itself\\n")
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
"""


def program(name: str, code: str, *, is_essential: bool = True) -> Program:
    return Program(name=name, command=(sys.executable, "-S", "-c", code), is_essential=is_essential)


def obedient(log: Path, name: str = "gateway") -> Program:
    return program(name, OBEDIENT.format(log=str(log)))
