"""What ``metaclaw skills export --openclaw`` writes, as the real OpenClaw sees it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.agents.programs import MODULES, OpenClawLeavings
from tests.cli.programs import METACLAW

pytestmark = [pytest.mark.agents, pytest.mark.timeout(300)]


def test_openclaw_lists_an_exported_skill_as_ready(tmp_path: Path) -> None:
    leavings = OpenClawLeavings()
    state = tmp_path / "home" / ".openclaw"
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "METACLAW_HOME": str(tmp_path / "metaclaw")}
    state.mkdir(parents=True)
    export = [*METACLAW, "skills", "export", "git-commit-messages", "--openclaw"]
    subprocess.run(export, env=environment, check=True, timeout=60)
    assert (state / "skills" / "git-commit-messages" / "SKILL.md").is_file()
    [node] = MODULES.glob("node-*/bin/node")
    shown = subprocess.run(
        [str(node), str(MODULES / "openclaw" / "openclaw.mjs"), "skills", "list"],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    leavings.remove(tmp_path)
    [line] = [line for line in shown.stdout.splitlines() if "git-commit-messages" in line]
    assert "ready" in line
    assert "openclaw-managed" in line
