"""What somebody is told whose start in the background failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metaclaw.processes.background import reason
from metaclaw.processes.supervisor import SAID_ABOVE


def said(process: str, message: str) -> str:
    return json.dumps({"time": "now", "level": "info", "process": process, "message": message})


@pytest.mark.parametrize("refusal", ["metaclaw gateway: no token", said("gateway", "no token")])
def test_the_reason_is_what_the_program_itself_said_whoever_wrote_after_it(tmp_path: Path, refusal: str):
    """The learner starts at the same time, and wrote its own line behind that of the gateway."""
    log = tmp_path / "metaclaw.log"
    lines = ["metaclaw: starting", refusal, said("learner", "no judge"), f"metaclaw: the gateway refused{SAID_ABOVE}"]
    log.write_text("\n".join(lines) + "\n")
    assert reason(log) == "the gateway refused: no token"


def test_without_a_word_of_the_program_the_line_before_is_told(tmp_path: Path):
    log = tmp_path / "metaclaw.log"
    log.write_text(f"Killed\nmetaclaw: the gateway refused{SAID_ABOVE}\n")
    assert reason(log) == "the gateway refused: Killed"
    log.write_text("")
    assert reason(log) == "it wrote nothing"
