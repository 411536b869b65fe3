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
    with blockbuster_ctx(scanned_modules=["metaclaw"]) as blockbuster:
        # The one allowance: the spool is written to the page cache by the event loop itself, some tens of microseconds
        # for a record and a new file every 4 MiB. A thread would cost more, and kill -9 could come before it.
        for function in blockbuster.functions.values():
            function.can_block_in("metaclaw/journal/spool.py", {"_write_all", "_cut", "begin_segment"})
        yield
