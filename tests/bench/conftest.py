"""What the tests of the benchmark share with those of scripted conversations."""

from __future__ import annotations

from tests.rollout.conftest import anyio_backend, confinement, sandbox

__all__ = ["anyio_backend", "confinement", "sandbox"]
