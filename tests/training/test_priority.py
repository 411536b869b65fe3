"""Who steps back, and that nobody else does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GROUP = Path("/proc/self/autogroup")
_PROGRAM = """
import os
from pathlib import Path
from metaclaw.training.priority import session_steps_back, step_back
step_back(7)
session_steps_back(3)
group = Path("/proc/self/autogroup")
words = group.read_text().split() if group.exists() else []  # empty in the kernel's first group, of no session
print(os.nice(0), words[-1] if words else "none")
"""


def stepped_back(*, leads_a_session: bool) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, start_new_session=leads_a_session
    )
    return done.stdout.split()


def test_whoever_leads_a_session_takes_it_along() -> None:
    """Else niceness means nothing where the kernel shares the machine between sessions."""
    nice, group = stepped_back(leads_a_session=True)
    assert int(nice) == min(19, os.nice(0) + 7)
    assert group in ("3", "none")


@pytest.mark.skipif(not GROUP.exists(), reason="this kernel does not group sessions")
def test_the_session_of_somebody_else_stays_as_it_is() -> None:
    before = GROUP.read_text()
    nice, _ = stepped_back(leads_a_session=False)
    assert int(nice) == min(19, os.nice(0) + 7)
    assert GROUP.read_text() == before
