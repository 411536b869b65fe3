from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.programs import metaclaw


def test_an_unknown_key_exits_with_2_and_names_the_nearest(tmp_path: Path):
    done = metaclaw(tmp_path, "config", "rl.remot_url", "http://x")
    assert done.returncode == 2
    assert done.stderr == "metaclaw: unknown key 'rl.remot_url'; did you mean 'rl.remote_url'?\n"
    assert not (tmp_path / "config.yaml").exists()


def test_a_bad_value_exits_with_2_in_one_line(tmp_path: Path):
    done = metaclaw(tmp_path, "config", "rl.remote_url", "gpu:8000")
    assert done.returncode == 2
    assert done.stderr.startswith("metaclaw: rl.remote_url: 'gpu:8000' is not valid")
    assert done.stderr.count("\n") == 1


def test_a_key_is_written_and_read_back(tmp_path: Path):
    assert metaclaw(tmp_path, "config", "rl.update.learning_rate", "3e-4").stdout == "rl.update.learning_rate: 0.0003\n"
    assert metaclaw(tmp_path, "config", "rl.update.learning_rate").stdout == "0.0003\n"


def test_show_masks_secrets_and_reveals_them_only_when_asked(tmp_path: Path):
    """PITFALLS S6: parts of credentials were printed."""
    done = metaclaw(tmp_path, "config", "llm.api_key", "-", stdin="sk-abcdef123456\r\n")
    assert done.stdout == "llm.api_key: ***\n"
    shown = metaclaw(tmp_path, "config", "show").stdout
    assert "llm.api_key: ***\n" in shown
    assert "sk-" not in shown
    assert "proxy.api_key:\n" in shown  # one that is not set looks different
    assert "llm.api_key: sk-abcdef123456\n" in metaclaw(tmp_path, "config", "show", "--reveal").stdout
    assert metaclaw(tmp_path, "config", "llm.api_key").stdout == "sk-abcdef123456\n"  # for $(metaclaw config ...)


def test_a_variable_that_wins_over_the_file_is_mentioned(tmp_path: Path):
    done = metaclaw(tmp_path, "config", "proxy.port", "1234", env={"METACLAW_PROXY_PORT": "99"})
    assert "METACLAW_PROXY_PORT" in done.stderr
    assert metaclaw(tmp_path, "config", "proxy.port", env={"METACLAW_PROXY_PORT": "99"}).stdout == "99\n"


def test_a_key_of_an_older_release_is_written_under_its_name_of_today(tmp_path: Path):
    assert metaclaw(tmp_path, "config", "rl.prm_model", "gpt").stdout == "rl.judge.model: gpt\n"
    assert "prm_model" not in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize("command", [("config", "show"), ("status",), ("models", "list")])
def test_a_command_that_only_looks_leaves_nothing_behind(tmp_path: Path, command: tuple[str, ...]):
    home = tmp_path / "home"
    metaclaw(home, *command, env={"METACLAW_CACHE": str(tmp_path / "cache")})
    assert not home.exists()
    assert not (tmp_path / "cache").exists()


def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    done = metaclaw(tmp_path / "file" / "home", "config", "proxy.port", "1")
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1
    assert "file" in done.stderr


def test_a_file_of_an_older_release_is_written_under_todays_names_when_that_is_asked_for(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("claw_type: copaw\nmemory: {scope: a, top_k: 3, auto_extract: true}\n")
    (tmp_path / "config.yaml").chmod(0o600)
    assert "`metaclaw config tidy`" in metaclaw(tmp_path, "config", "agent_program").stderr
    tidied = metaclaw(tmp_path, "config", "tidy")
    assert tidied.returncode == 0, tidied.stderr
    assert "memory.scope is obsolete" in tidied.stdout
    assert str(tmp_path / "config.yaml.1") in tidied.stdout
    assert (tmp_path / "config.yaml").read_text() == "agent_program: qwenpaw\n"
    assert metaclaw(tmp_path, "config", "agent_program").stderr == ""
    assert "today" in metaclaw(tmp_path, "config", "tidy").stdout
    assert metaclaw(tmp_path / "none", "config", "tidy").returncode == 2
