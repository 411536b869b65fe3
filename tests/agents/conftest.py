"""What the real OpenClaw leaves behind goes with the test that ran it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.programs import OpenClawLeavings


@pytest.fixture
def openclaw_leaves_nothing(tmp_path: Path) -> Iterator[None]:
    leavings = OpenClawLeavings()
    yield
    leavings.remove(tmp_path / "program")
