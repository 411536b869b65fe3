"""The learner as a process: its settings, its end, and what it must not need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metaclaw.config import JudgeSettings, RlSettings, Settings
from metaclaw.config_file import dump_settings
from metaclaw.errors import ConfigError, MissingExtraError
from metaclaw.learner.extras import load_backend


def learner(home: Path, **settings) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-m", "metaclaw.learner"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(dump_settings(Settings(home=home, **settings)) + "\n")
    process.stdin.flush()
    return process


def said_before(process: subprocess.Popen, text: str) -> bool:
    assert process.stderr is not None
    return any(text in line for line in iter(process.stderr.readline, ""))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"mode": "rl"}, "NO JUDGE, NO LEARNING"),
        ({"mode": "auto"}, "NO JUDGE, NO LEARNING"),
        ({"mode": "skills_only"}, "nothing is trained"),
    ],
)
def test_it_says_loudly_why_it_learns_nothing_and_ends_with_its_parent(tmp_path, settings, text):
    process = learner(tmp_path, **settings)
    assert said_before(process, text)
    _, rest = process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in rest


def test_settings_that_cannot_work_end_it_with_a_message(tmp_path):
    process = learner(tmp_path, mode="rl", rl=RlSettings(judge=JudgeSettings(verifier="no.such:function")))
    _, said = process.communicate()
    assert process.returncode == 2
    assert "rl.judge.verifier 'no.such:function' cannot be loaded" in said
    assert "Traceback" not in said


def test_a_disk_that_takes_nothing_more_is_no_fault_of_the_settings(tmp_path):
    """Code 2 ends the gateway too, which serves on a full disk."""
    code = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192));"
        " runpy.run_module('metaclaw.learner', run_name='__main__')"
    )
    line = dump_settings(Settings(home=tmp_path, mode="skills_only")) + "\n"
    ended = subprocess.run([sys.executable, "-c", code], input=line, capture_output=True, text=True, check=False)
    assert "cannot open the journal" in ended.stderr
    assert ended.returncode == 1


def test_a_second_learner_on_one_home_is_refused_while_the_first_lives(tmp_path):
    """It would take the first one's running updates for unfinished ones, and train their samples again."""
    first = learner(tmp_path, mode="rl")
    assert said_before(first, "NO JUDGE, NO LEARNING")
    second = learner(tmp_path, mode="rl")
    _, said = second.communicate()
    assert second.returncode == 2
    assert "another learner already writes" in said
    first.kill()
    first.communicate()
    third = learner(tmp_path, mode="rl")
    assert said_before(third, "NO JUDGE, NO LEARNING")
    third.communicate()


def test_without_the_extra_it_idles_in_skills_only_and_names_the_extra_in_rl(tmp_path, monkeypatch):
    rooms = "metaclaw.learner.__main__, metaclaw.journal.learning_status, metaclaw.learner.versions"
    code = f"import sys, {rooms}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "tinker"} & set(shown.stdout.split())
    monkeypatch.delitem(sys.modules, "metaclaw.learner.backends.tinker_sdk", raising=False)
    monkeypatch.setitem(sys.modules, "tinker", None)
    with pytest.raises(MissingExtraError, match=r"metaclaw\[rl\]"):
        load_backend(RlSettings(remote_api_key="k"))


def test_the_sdk_neither_reports_nor_runs_commands(monkeypatch):
    monkeypatch.setenv("TINKER_CREDENTIAL_CMD", "touch /tmp/never")
    monkeypatch.setenv("TINKER_TELEMETRY", "1")
    load_backend(RlSettings(remote_api_key="k"))
    assert "TINKER_CREDENTIAL_CMD" not in os.environ
    assert os.environ["TINKER_TELEMETRY"] == "0"


def test_without_a_key_the_clouds_own_key_is_not_sent_elsewhere(monkeypatch):
    monkeypatch.setenv("TINKER_API_KEY", "tml-of-the-cloud")
    with pytest.raises(ConfigError, match=r"rl\.remote_api_key"):
        load_backend(RlSettings())


def test_the_learner_does_not_carry_torch_but_a_verifier_may(tmp_path):
    code = """
import sys
from pathlib import Path
from metaclaw.config import RlSettings
from metaclaw.learner.extras import load_backend, torch_kept_out
with torch_kept_out():
    load_backend(RlSettings(remote_api_key="k"))
assert "tinker" in sys.modules and "torch" not in sys.modules
import torch
"""
    subprocess.run([sys.executable, "-c", code], check=True)
