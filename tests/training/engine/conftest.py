"""Tiny base models and engines over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from metaclaw.training.base_model import load_base
from metaclaw.training.engine import Engine, EngineOptions
from tests.fakes.tiny_model import make_tiny_model, make_untied_model
from tests.training.device import DEVICE

MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # the tests share a small machine, and one thread sums in one order


@pytest.fixture(scope="session")
def tied_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tied")


@pytest.fixture(scope="session")
def untied_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_untied_model(tmp_path_factory.mktemp("models") / "untied")


@pytest.fixture(scope="session")
def make_engine(tied_folder: Path) -> MakeEngine:
    """An engine of its own over a freshly loaded base."""

    def make(folder: Path = tied_folder, *, max_context: int = 0, **options: object) -> Engine:
        return Engine(
            load_base(folder, device=DEVICE, dtype="float32", max_context=max_context), EngineOptions(**options)
        )

    return make


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine()
