"""What ``metaclaw train-server`` settles before the server itself begins."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import typer.main

from metaclaw.cli.main import app
from metaclaw.config_keys import setting_keys
from metaclaw.training.server_key import stored_key
from tests.cli.programs import metaclaw


def test_the_first_start_makes_a_key_and_shows_it_once(tmp_path: Path):
    arguments = ("train-server", "--base-model", "./no-such-folder", "--data-dir", str(tmp_path / "data"))
    first = metaclaw(tmp_path, *arguments)
    key = (tmp_path / "data" / "api-key").read_text().strip()
    assert len(key) >= 32
    assert (tmp_path / "data" / "api-key").stat().st_mode & 0o777 == 0o600
    assert key in first.stdout
    second = metaclaw(tmp_path, *arguments)
    assert key not in second.stdout + second.stderr
    assert (tmp_path / "data" / "api-key").read_text().strip() == key


def test_a_given_key_is_used_and_none_is_stored(tmp_path: Path):
    arguments = ("train-server", "--base-model", "./no-such-folder", "--data-dir", str(tmp_path / "data"))
    done = metaclaw(tmp_path, *arguments, env={"METACLAW_TRAIN_API_KEY": "mine"})
    assert "mine" not in done.stdout + done.stderr
    assert not (tmp_path / "data" / "api-key").exists()


def test_a_folder_given_as_a_flag_is_seen_from_where_it_was_typed(tmp_path: Path):
    """In the file it is seen from the home, and a flag must not move there with it."""
    data = os.path.relpath(tmp_path / "data")
    metaclaw(tmp_path / "home", "train-server", "--base-model", "./no-such-folder", "--data-dir", data)
    assert (tmp_path / "data" / "api-key").exists()


def test_an_open_address_needs_a_key_that_the_user_chose(tmp_path: Path):
    """PITFALLS S1, B8: it listened on 0.0.0.0 with authentication off."""
    done = metaclaw(tmp_path, "train-server", "--base-model", "x", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "set train_server.api_key" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path):
    done = metaclaw(tmp_path, "train-server", "--base-model", "./no-such-folder")
    assert done.returncode == 1
    assert "there is no folder './no-such-folder'" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    done = metaclaw(tmp_path, "train-server", "--base-model", "smollm2", env={"METACLAW_CACHE": str(tmp_path)})
    assert "metaclaw models prepare smollm2" in done.stderr


def test_first_starts_at_the_same_time_agree_on_the_key(tmp_path: Path):
    found: list[tuple[str, bool]] = []
    threads = [threading.Thread(target=lambda: found.append(stored_key(tmp_path / "data"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key for key, _ in found}) == 1
    assert [is_new for _, is_new in found].count(True) == 1


def test_every_flag_has_a_key_in_the_file_and_a_variable():
    """Issue 3.7. Flags of one run alone (what to show instead of serving) have none."""
    command = typer.main.get_command(app).commands["train-server"]  # pyright: ignore
    flags = {parameter.name for parameter in command.params} - {"plan", "json_output", "memory_gb"}
    keys = {name.removeprefix("train_server."): key for name, key in setting_keys().items() if "train_server." in name}
    assert flags <= keys.keys()
    assert keys.keys() <= flags, "a setting of the server without a flag"
    assert {f"METACLAW_TRAIN_SERVER_{flag.upper()}" for flag in flags} == {keys[flag].env for flag in flags}
