from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaclaw.memory.store import MemoryStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with MemoryStore.open(tmp_path / "memory.db") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _levels_of_loggers_stay() -> Iterator[None]:
    """Commands that tests run in this process change them: `metaclaw skills` says nothing but errors."""
    logger = logging.getLogger("metaclaw.skills")
    level = logger.level
    yield
    logger.setLevel(level)
