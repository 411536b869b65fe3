"""Edits keep what the user wrote, or change nothing at all."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metaclaw.config import Settings
from metaclaw.config_file import get_value, read_settings, set_value, set_values
from metaclaw.config_keys import names_in, setting_keys
from metaclaw.errors import ConfigError
from metaclaw.locks import exclusive_lock

FILE = """\
# my settings
mode: rl            # since May
rl:
  # the small one
  model: 'smollm2'
  judge: {verifier: "my_checks:score"}   # mine

proxy:
  port: 30000
"""


def test_comments_order_and_quotes_stay(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(FILE)
    set_value(tmp_path, "proxy.port", "4321")
    assert path.read_text() == FILE.replace("30000", "4321")
    set_value(tmp_path, "rl.update.learning_rate", "3e-4")
    assert "# the small one" in path.read_text()
    assert read_settings(tmp_path, {})[0].rl.update.learning_rate == 3e-4


def test_the_file_and_its_home_are_the_owners_alone(tmp_path: Path):
    """PITFALLS S6: secrets with default permissions."""
    set_value(tmp_path / "home", "llm.api_key", "sk-1")
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "home" / "config.yaml").stat().st_mode & 0o777 == 0o600
    (tmp_path / "home" / "config.yaml").chmod(0o644)
    set_value(tmp_path / "home", "llm.api_key", "sk-2")
    assert (tmp_path / "home" / "config.yaml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        (FILE, "proxy.port", "x"),
        (FILE, "llm.model_id", "m\udcffdel"),  # what a shell with another character set types
        ('llm: {model_id: "\\ud83d"}\n', "proxy.port", "1"),
        (FILE, "proxy.prot", "1"),
        (FILE, "proxy.host", "0.0.0.0"),
        ("mode: rl\n\tx: 1\n", "proxy.port", "1"),
        ("- a\n", "proxy.port", "1"),
        ("unknown: 1\n", "proxy.port", "1"),
    ],
)
def test_what_would_not_load_is_not_written(tmp_path: Path, text: str, key: str, value: str):
    """PITFALLS, run under faults: a broken file was rewritten with defaults."""
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError):
        set_value(tmp_path, key, value)
    assert (tmp_path / "config.yaml").read_text() == text
    assert {entry.name for entry in tmp_path.iterdir()} <= {"config.yaml", ".config.lock"}


def test_a_disk_that_fills_up_while_it_is_written_leaves_the_file_as_it_was(tmp_path: Path):
    """PITFALLS S6: written in place, so that whatever went wrong in between took the keys with it."""
    (tmp_path / "config.yaml").write_text(FILE)
    code = f"""
import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({len(FILE) // 2}, resource.RLIM_INFINITY))
from pathlib import Path
from metaclaw.config_file import set_value
set_value(Path({str(tmp_path)!r}), "proxy.port", "4321")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "It is as it was" in ended.stderr
    assert (tmp_path / "config.yaml").read_text() == FILE
    assert {entry.name for entry in tmp_path.iterdir()} <= {"config.yaml", ".config.lock"}


def test_a_linked_file_stays_a_link(tmp_path: Path):
    (tmp_path / "dotfiles").write_text("mode: rl\n")
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").symlink_to(tmp_path / "dotfiles")
    set_value(home, "proxy.port", "1")
    assert (home / "config.yaml").is_symlink()
    assert "port: 1" in (tmp_path / "dotfiles").read_text()


def test_an_empty_text_clears_a_computed_default_and_a_group_that_became_empty(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("mode: rl\nskills:\n  dir: ~/x\n")
    set_value(tmp_path, "skills.dir", "")
    assert (tmp_path / "config.yaml").read_text() == "mode: rl\n"


def test_an_empty_file_can_be_filled(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("")
    set_value(tmp_path, "mode", "rl")
    assert (tmp_path / "config.yaml").read_text() == "mode: rl\n"


def test_several_keys_are_one_write(tmp_path: Path):
    with pytest.raises(ConfigError):
        set_values(tmp_path, {"mode": "rl", "proxy.port": "x"})
    assert not (tmp_path / "config.yaml").exists()
    # Each alone would be refused: an open address needs a token.
    set_values(tmp_path, {"proxy.host": "0.0.0.0", "proxy.api_key": "mine"})


def test_an_edit_waits_for_the_one_that_is_being_written_and_keeps_it(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(FILE)
    edit = threading.Thread(target=set_value, args=(tmp_path, "proxy.port", "4321"))
    with exclusive_lock(tmp_path / ".config.lock", wait=True):
        edit.start()
        edit.join(0.3)
        assert edit.is_alive()
        path.write_text(FILE.replace("smollm2", "mine"))
    edit.join(10)
    assert path.read_text() == FILE.replace("smollm2", "mine").replace("30000", "4321")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(text=st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60))
def test_any_text_survives_the_file(tmp_path: Path, text: str):
    """YAML has opinions on leading blanks, '#', ': ' and much else."""
    (tmp_path / "config.yaml").write_text(FILE)
    set_values(tmp_path, {"llm.model_id": text, "llm.api_key": text})
    now = read_settings(tmp_path, {})[0]
    assert (now.llm.model_id, now.llm.api_key.get_secret_value()) == (text, text)


LOOKALIKES = ["null", "~", "yes", "1e5", "0123", "# no", "a: b", "- x", " x ", "'", '"', "2024-01-01"]


@pytest.mark.parametrize("text", LOOKALIKES)
def test_text_that_looks_like_something_else_stays_text(tmp_path: Path, text: str):
    set_value(tmp_path, "llm.model_id", text)
    assert read_settings(tmp_path, {})[0].llm.model_id == text


def test_every_default_can_be_written_and_read_back(tmp_path: Path):
    defaults = Settings()
    names = [name for name in names_in(defaults) if setting_keys()[name].default is not None]
    set_values(tmp_path, {name: get_value(defaults, name, reveal=True) for name in names})
    assert read_settings(tmp_path, {})[0].model_dump() == defaults.model_dump()
