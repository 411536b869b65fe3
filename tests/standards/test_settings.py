"""Every setting is described, read by the program, and in the documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from metaclaw.config_keys import SettingKey, section_names, setting_keys

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "metaclaw"
# Where a setting is defined, listed or asked for, which is not reading it.
_NOT_READERS = {SOURCE / name for name in ("config_file.py", "config_keys.py", "config_legacy.py")}
_PROGRAM = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted(SOURCE.rglob("*.py"))
    if path not in _NOT_READERS and path.relative_to(SOURCE).parts[0] not in {"cli", "config"}
)
_DERIVED = {
    "memory.dir": "memory_db",
    "scheduler.calendar.token_path": "calendar_token",
    "scheduler.sleep_end": "sleep",
    "scheduler.sleep_start": "sleep",
    "scheduler.time_zone": "zone",
    "skills.dir": "skills_dir",
    "train_server.data_dir": "train_server_dir",
}  # read through a property


@pytest.mark.parametrize("key", setting_keys().values(), ids=lambda key: key.name)
def test_a_setting_is_described_and_read(key: SettingKey):
    """PITFALLS B8, SPEC A3: keys were documented that nobody read."""
    assert key.description.endswith("."), f"{key.name} has no sentence that describes it"
    attribute = _DERIVED.get(key.name, key.name.rsplit(".", 1)[-1])
    assert re.search(rf"\.{attribute}\b", _PROGRAM), f"{key.name} is read nowhere in src/metaclaw"


@pytest.mark.parametrize("section", section_names())
def test_a_section_is_described(section: str):
    assert section_names()[section].strip().endswith((".", ")."))


def test_the_reference_is_current():
    made = subprocess.run([sys.executable, "-m", "metaclaw.cli.reference"], capture_output=True, text=True, check=True)
    assert made.stdout == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"), "run `make docs`"
