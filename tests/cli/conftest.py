from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from metaclaw.processes.instance import stop_instance
from tests.cli.programs import metaclaw, upstream


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home that was set up with a model that answers; nothing runs on it afterwards."""
    with upstream() as url:
        place = tmp_path / "home"
        done = metaclaw(
            place, "setup", "--yes", "--api-base", url, "--api-key", "sk-x", "--model-id", "m", "--port", "0"
        )
        assert done.returncode == 0, done.stderr
        yield place
        stop_instance(place)
