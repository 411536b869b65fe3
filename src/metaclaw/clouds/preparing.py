"""Making the environment that a cloud's SDK lives in: a venv of its own, because its pins are not ours.

Owns the venv and pip; refuses to know what the SDK is used for. Invariant: the marker is written last, so an
environment that was interrupted while it was made is made anew, and two commands never make one at once.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from metaclaw.clouds.cloud import PACKAGES, environment_of, python_in
from metaclaw.config import CloudName
from metaclaw.errors import ConfigError, ProcessError
from metaclaw.locks import exclusive_lock

_MARKER = "metaclaw-sdk.txt"

Report = Callable[[str], None]


def prepare(name: CloudName, *, report: Report, python: Path | None = None) -> Path:
    """The Python that has the SDK of ``name``, made unless it is there. ``python`` is what it is made from.

    Raises ``ProcessError`` with what failed; then nothing is left.
    """
    if name not in PACKAGES:
        raise ConfigError(f"the SDK of {name} is in our own environment: pip install 'metaclaw[rl]'")
    home, package = environment_of(name), PACKAGES[name]
    home.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(home.parent / f".{name}.lock", wait=True):
        if not _is_ready(home, package):
            _make(home, package, python or Path(sys.executable), report)
    return python_in(home)


def _is_ready(home: Path, package: str) -> bool:
    marker = home / _MARKER
    return marker.is_file() and marker.read_text(encoding="utf-8") == package and python_in(home).is_file()


def _make(home: Path, package: str, python: Path, report: Report) -> None:
    shutil.rmtree(home, ignore_errors=True)
    try:
        report(f"making a virtual environment in {home}")
        _run([str(python), "-m", "venv", str(home)], "the virtual environment could not be made")
        report(f"installing {package}")
        pip = [str(python_in(home)), "-m", "pip", "--disable-pip-version-check", "install", package]
        _run(pip, f"{package} could not be installed")
        (home / _MARKER).write_text(package, encoding="utf-8")
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _run(command: list[str], failure: str) -> None:
    try:
        done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise ProcessError(f"{failure}: {error}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ProcessError(f"{failure}: {lines[-1] if lines else f'exit code {done.returncode}'}")
