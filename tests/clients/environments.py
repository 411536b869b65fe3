"""Where the interpreters of other people's SDKs are: `make clients` makes them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python_in(environment: str) -> Path:
    """The Python of ``.venv-mint`` or the like; its absence is a failure, never a reason to skip."""
    python = ROOT / environment / "bin" / "python"
    if not python.with_name("pip").exists():
        pytest.fail(f"{environment} is missing: run `make clients`")
    return python


def python_of(sdk: str) -> Path:
    """The Python that has the SDK of a cloud: Tinker's is in our own."""
    return Path(sys.executable) if sdk == "tinker" else python_in(f".venv-{sdk}")
