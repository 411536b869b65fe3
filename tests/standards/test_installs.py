"""What is installed and imported: as little as a user asked for."""

from __future__ import annotations

import json
import re
import shutil
import site
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from tests.cli.programs import ask, metaclaw, started, upstream

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "peft", "tinker", "numpy", "msgpack", "fastapi", "aiohttp", "sqlite3", "ruamel"}
IMPORTED = "import json, sys; sys.argv = ['metaclaw', *sys.argv[1:]]\n{run}\nprint(json.dumps(sorted(sys.modules)))"
HELP = """
from metaclaw.cli.main import app
try: app(sys.argv[1:], standalone_mode=False)
except SystemExit: pass
"""


def imported_by(run: str, *arguments: str) -> set[str]:
    """The top-level packages in memory after ``run``."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED.format(run=run), *arguments], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize("arguments", [("--help",), ("version",), ("start", "--help"), ("train-server", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]):
    """PITFALLS, HEAD lost lazy imports: the default install crashed on `metaclaw`, for want of torch."""
    assert imported_by(HELP, *arguments) & HEAVY == set()


@pytest.mark.parametrize(
    "module", ["metaclaw.gateway.app", "metaclaw.learner.assembly", "metaclaw.processes.foreground"]
)
def test_serving_and_judging_need_no_torch(module: str):
    assert imported_by(f"import {module}") & {"torch", "transformers", "peft", "tinker", "numpy", "msgpack"} == set()


def test_every_package_that_is_declared_is_pinned_for_ci():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_name(line) for line in lines if not line.startswith("#")}
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *extras["rl"], *extras["evolve"], *extras["dev"]]
    assert {_name(requirement) for requirement in declared} <= pinned
    assert not [line for line in lines if "+" in line], "a local version exists on one machine only"


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=~!; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


@pytest.mark.slow
def test_the_four_lines_that_users_know(tmp_path: Path):
    """git clone, pip install -e ".[rl,evolve]", metaclaw setup, metaclaw start, and a real request.

    The clone is a copy of the files that git tracks, as they are now. To stay under a minute, the dependencies are
    those of the environment that runs this test (``--no-deps --no-build-isolation``); `.ci/run` installs all of them.
    """
    clone, home = tmp_path / "metaclaw", tmp_path / "home"
    _copy_tracked(clone)
    python = _environment_beside_ours(tmp_path / "venv")
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    pip = [str(python), "-m", "pip", "install", *flags, "-e", f"{clone}[rl,evolve]"]
    subprocess.run(pip, cwd=clone, check=True, capture_output=True, text=True)
    command = (str(python.with_name("metaclaw")),)
    where = subprocess.run([python, "-c", "import metaclaw; print(metaclaw.__file__)"], capture_output=True, text=True)
    assert where.stdout.strip() == str(clone / "src" / "metaclaw" / "__init__.py")
    with upstream() as url:
        answers = ("--api-base", url, "--api-key", "sk-x", "--model-id", "m", "--port", "0")
        done = metaclaw(home, "setup", "--yes", *answers, command=command)
        assert done.returncode == 0, done.stderr
        with started(home, command=command):
            assert ask(home) == "hello from upstream"


def _copy_tracked(target: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _environment_beside_ours(place: Path) -> Path:
    """A new environment that finds our packages, but not our editable install of MetaClaw."""
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    query = "import site; print(site.getsitepackages()[0])"
    packages = subprocess.run([python, "-c", query], capture_output=True, text=True, check=True).stdout.strip()
    # A path that a .pth file names is searched, but the .pth files in it (ours among them) are not read.
    (Path(packages) / "beside.pth").write_text(site.getsitepackages()[0] + "\n")
    return python
