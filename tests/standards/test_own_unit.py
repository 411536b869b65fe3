"""``deploy/metaclaw.service``: what it names exists, and systemd understands it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from metaclaw.config_file import _OTHER_VARIABLES  # pyright: ignore[reportPrivateUsage]
from metaclaw.config_keys import setting_keys

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "metaclaw.service"


def test_it_starts_what_there_is_and_holds_no_secret():
    text = UNIT.read_text(encoding="utf-8")
    known = {key.env for key in setting_keys().values()} | _OTHER_VARIABLES
    assert set(re.findall(r"METACLAW_[A-Z_]+", text)) <= known
    assert re.findall(r"^ExecStart=\S+/metaclaw (\S+)$", text, re.MULTILINE) == ["start"]
    assert not re.search(r"^Environment=.*(KEY|TOKEN|SECRET)=", text, re.MULTILINE)


def test_what_no_start_mends_is_not_started_again():
    """docs/running.md: exit code 2 is a setting that cannot work."""
    assert "\nRestartPreventExitStatus=2\n" in UNIT.read_text(encoding="utf-8")


def test_systemd_understands_it(tmp_path: Path):
    """Where systemd is at hand; elsewhere, that the file has its three sections."""
    text = UNIT.read_text(encoding="utf-8")
    assert re.findall(r"^\[(\w+)\]$", text, re.MULTILINE) == ["Unit", "Service", "Install"]
    if analyze := shutil.which("systemd-analyze"):
        unit = tmp_path / UNIT.name
        unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
        done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
        assert UNIT.name not in done.stderr, done.stderr
