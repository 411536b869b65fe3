"""``kill -9`` while a program is connected, at every step: what comes after finds its way back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agents.test_wiring import CASES, Case, Desk


@pytest.mark.parametrize("case", [CASES[0], CASES[-1]], ids=lambda case: case.name)
def test_who_is_killed_while_connecting_can_connect_again_or_disconnect_and_has_everything_back(
    case: Case, tmp_path: Path
):
    is_done, step = False, 0
    while not is_done:
        step += 1
        desk = Desk(tmp_path / str(step))
        desk.lay(case, case.text.encode())
        before = desk.files()
        is_done = connects_until_killed(desk, case, step)
        if step % 2:
            desk.connect(case.name)
        if desk.ledger.read(case.name) is not None:
            desk.disconnect(case.name)
        assert desk.files() == before, f"killed before step {step}"
        assert desk.ledger.programs() == []
    assert step >= 4  # a copy, the record, a file; and not at all


def connects_until_killed(desk: Desk, case: Case, step: int) -> bool:
    """Connect in a process that is killed before its ``step``th file comes into its place; whether it was done."""
    root = desk.machine.home.parent
    done = subprocess.run([sys.executable, "-m", __name__, str(root), case.name, str(step)], check=False, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode == 0


def _connect_and_die(root: Path, name: str, step: int) -> None:
    put_in_place, left = Path.replace, step

    def replace(self: Path, target: Any) -> Path:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return put_in_place(self, target)

    Path.replace = replace  # type: ignore[method-assign]
    Desk(root).connect(name)


if __name__ == "__main__":
    _connect_and_die(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
