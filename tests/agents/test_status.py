"""Whether a program that was connected still asks us."""

from __future__ import annotations

import os
from pathlib import Path

from metaclaw.agents import wiring
from metaclaw.agents.ledger import Ledger
from metaclaw.agents.program import AgentProgram, Connection, Machine
from metaclaw.agents.programs.registry import find_program
from metaclaw.agents.status import ProgramStatus, read_status

URL = "http://127.0.0.1:30000"


def connected(name: str, machine: Machine, ledger: Ledger) -> AgentProgram:
    program = find_program(name)
    connection = Connection(url=URL, token="mc-1", agent="main", context_tokens=1)
    plan = program.plan(connection, machine)
    wiring.connect(wiring.connecting(name, plan, None, ledger), connection, plan, 1.0, ledger)
    return program


def test_a_gateway_that_moved_is_said(tmp_path: Path):
    (tmp_path / ".ironclaw").mkdir()
    machine, ledger = Machine(home=tmp_path, env={}, platform="linux"), Ledger(tmp_path / "home")
    program = connected("ironclaw", machine, ledger)

    def status(gateway: str | None) -> ProgramStatus:
        return read_status(program, machine, ledger, gateway=gateway)

    assert (status(URL).trouble, status(None).trouble) == (None, None)
    moved = status("http://127.0.0.1:4000").trouble
    assert moved == "the gateway is at http://127.0.0.1:4000 now: `metaclaw connect ironclaw` again"


def test_nemoclaw_which_knows_this_machine_by_another_name_is_connected(tmp_path: Path):
    """`metaclaw programs` wanted it connected again for ever."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("openshell", "nemoclaw"):
        program = programs / name
        program.write_text('#!/bin/sh\n[ "$2" = get ] && printf "Provider: metaclaw\\nModel: metaclaw\\n"\nexit 0\n')
        program.chmod(0o755)
    env = {"PATH": f"{programs}:{os.environ['PATH']}"}
    machine, ledger = Machine(home=tmp_path, env=env, platform="linux"), Ledger(tmp_path / "home")
    status = read_status(connected("nemoclaw", machine, ledger), machine, ledger, gateway=URL)
    assert (status.state, status.trouble) == ("connected", None)
