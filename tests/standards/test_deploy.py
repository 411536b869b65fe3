"""What the files in ``deploy/`` name exists, and no secret is in them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from metaclaw.cli.main import app
from metaclaw.config_file import _OTHER_VARIABLES  # pyright: ignore[reportPrivateUsage]
from metaclaw.config_keys import ENV_ALIASES, setting_keys

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILES = [DEPLOY / "Dockerfile", DEPLOY / "metaclaw-train-server.service"]
UNIT = FILES[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_flag_and_variable_exists(path: Path):
    text = path.read_text(encoding="utf-8")
    command = typer.main.get_command(app).commands["train-server"]  # pyright: ignore
    options = {option for parameter in command.params for option in parameter.opts}
    used = re.findall(r"(?:train-server|metaclaw-train-server) ((?:--[a-z-]+ \S+ ?)+)", text)
    assert {flag for group in used for flag in re.findall(r"--[a-z-]+", group)} <= options
    assert used
    known = ENV_ALIASES.keys() | {key.env for key in setting_keys().values()} | _OTHER_VARIABLES
    assert set(re.findall(r"METACLAW_[A-Z_]+", text)) <= known


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_secret_is_in_the_file_and_nobody_runs_as_root(path: Path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"^(ENV|ARG|Environment=).*(KEY|TOKEN|SECRET)=", text, re.MULTILINE)
    assert re.search(r"^USER metaclaw|^User=metaclaw", text, re.MULTILINE)


def test_the_image_copies_only_what_the_package_needs():
    copied = re.findall(r"^COPY (?!--from)(.*)$", FILES[0].read_text(encoding="utf-8"), re.MULTILINE)
    sources = {word for line in copied for word in line.split()[:-1]}
    assert sources == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "src"}
    assert all((DEPLOY.parent / source).exists() for source in sources)


def test_systemd_understands_the_unit(tmp_path: Path):
    """Where systemd is at hand; elsewhere, that the file has its three sections and no key twice where one is meant."""
    analyze = shutil.which("systemd-analyze")
    sections = re.findall(r"^\[(\w+)\]$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == ["Unit", "Service", "Install"]
    if analyze:
        unit = tmp_path / UNIT.name
        unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE))
        done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
        assert UNIT.name not in done.stderr, done.stderr
