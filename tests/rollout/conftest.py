"""What the tests of scripted conversations share."""

from __future__ import annotations

import pytest

from metaclaw.processes.confinement import Confinement, SandboxError, Unconfined, choose_confinement
from metaclaw.processes.sandbox import Sandbox


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def confinement() -> Confinement:
    """As users have it; where the kernel allows none, these tests' own commands do no harm."""
    try:
        return choose_confinement()
    except SandboxError:
        return Unconfined()


@pytest.fixture
def sandbox(confinement: Confinement) -> Sandbox:
    return Sandbox(confinement=confinement)
