"""One training server for the tests of the learner that need a real one."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest

from tests.fakes.tiny_model import make_tiny_model
from tests.fakes.training_server import TrainingServer, training_server


@pytest.fixture(scope="package")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingServer]:
    root = tmp_path_factory.mktemp("trainer")
    with training_server(make_tiny_model(root / "tiny"), root / "data", max_context=256) as server:
        yield server


@pytest.fixture
def sdk_sockets() -> Iterator[None]:
    """The SDK opens a connection for each client's configuration and never closes it: collect those silently.

    They lie in cycles; with the collector off, none of them warns in the middle of a test.
    """
    gc.disable()
    yield
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()
    gc.enable()
