"""What the tests of the gateway share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_blocking_call_in_the_event_loop() -> Iterator[None]:
    with blockbuster_ctx(scanned_modules=["metaclaw"]):
        yield
