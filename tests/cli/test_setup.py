from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from metaclaw.config_file import read_settings
from tests.cli.programs import METACLAW, ask, environment, metaclaw, started, upstream

UPSTREAM = ("--api-base", "http://127.0.0.1:9/v1", "--api-key", "sk-1", "--model-id", "m")


def test_setup_from_flags_writes_a_token_and_a_file_for_the_owner_alone(tmp_path: Path):
    """PITFALLS S6: secrets lay there with default permissions."""
    done = metaclaw(tmp_path / "home", "setup", "--yes", *UPSTREAM, "--port", "4321")
    assert done.returncode == 0, done.stderr
    settings, warnings = read_settings(tmp_path / "home", {})
    assert warnings == []
    assert (settings.mode, settings.proxy.port, settings.llm.model_id) == ("skills_only", 4321, "m")
    assert len(settings.proxy.api_key.get_secret_value()) >= 32
    assert (tmp_path / "home" / "config.yaml").stat().st_mode & 0o777 == 0o600
    assert "sk-1" not in done.stdout + done.stderr
    assert "metaclaw start" in done.stdout


def test_setup_again_changes_only_what_was_answered(tmp_path: Path):
    """PITFALLS, SPEC A4: running it again dropped whole sections there."""
    assert metaclaw(tmp_path, "setup", "--yes", *UPSTREAM).returncode == 0
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text() + "# mine\nskills:\n  top_k: 5  # not two\n")
    before = path.read_text()
    assert metaclaw(tmp_path, "setup", "--yes", "--model-id", "other").returncode == 0
    assert path.read_text() == before.replace("model_id: m", "model_id: other")


# What the reference system's own set-up wrote, by default.
REFERENCE = """\
mode: auto
llm: {provider: custom, api_base: 'http://127.0.0.1:9/v1', api_key: sk-1, model_id: m}
proxy: {port: 30000, host: 0.0.0.0}
memory:
rl: {enabled: true, model: Qwen/Qwen3-8B, tinker_api_key: tml-1,
     prm_url: https://api.openai.com/v1, prm_model: gpt-5.2, prm_api_key: ''}
"""


def test_setup_runs_on_a_home_of_the_reference(tmp_path: Path):
    """PITFALLS S1: neither `start` nor `setup` got past its open address; the new token must not open it either."""
    (tmp_path / "config.yaml").write_text(REFERENCE)
    done = metaclaw(tmp_path, "setup", "--yes")
    assert done.returncode == 0, done.stderr
    assert "NO JUDGE" in done.stderr
    settings, _ = read_settings(tmp_path, {})
    assert (settings.mode, settings.rl.backend, settings.rl.api_key.get_secret_value()) == ("auto", "tinker", "tml-1")
    assert "train-server" not in done.stdout
    done = metaclaw(tmp_path, "setup", "--yes", "--backend", "remote")
    assert "next: metaclaw train-server" in done.stdout
    settings, _ = read_settings(tmp_path, {})
    assert (settings.mode, settings.rl.backend) == ("auto", "remote")
    assert settings.rl.remote_api_key == settings.train_server.api_key != ""
    assert settings.proxy.host == "127.0.0.1"
    assert settings.proxy.api_key.get_secret_value()


def test_a_home_of_the_reference_starts_after_setup_and_answers(tmp_path: Path):
    with upstream() as url:
        (tmp_path / "config.yaml").write_text(REFERENCE.replace("http://127.0.0.1:9/v1", url).replace("30000", "0"))
        done = metaclaw(tmp_path, "start", "--mode", "skills_only")
        assert (done.returncode, "run `metaclaw setup`" in done.stderr) == (2, True)
        assert metaclaw(tmp_path, "setup", "--yes", "--mode", "skills_only").returncode == 0
        with started(tmp_path):
            assert ask(tmp_path) == "hello from upstream"


def test_setup_asks_for_what_a_mode_cannot_do_without(tmp_path: Path):
    done = metaclaw(tmp_path, "setup", "--yes")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--api-base" in done.stderr
    done = metaclaw(tmp_path, "setup", "--yes", "--mode", "rl")
    assert done.returncode == 2
    assert "--rl-model" in done.stderr
    assert not (tmp_path / "config.yaml").exists()


def test_no_judge_in_mode_rl_is_said_loudly(tmp_path: Path):
    rl = ("setup", "--yes", "--mode", "rl", "--rl-model", "smollm2")
    assert "NO JUDGE" in metaclaw(tmp_path, *rl).stderr
    assert "NO JUDGE" not in metaclaw(tmp_path, *rl, "--judge-verifier", "my_checks:score").stderr


@pytest.mark.parametrize("judge", ["command: 'true'", "provider: bedrock"])
def test_a_command_and_a_provider_are_judges_too(tmp_path: Path, judge: str):
    (tmp_path / "config.yaml").write_text(f"rl:\n  judge:\n    {judge}\n")
    done = metaclaw(tmp_path, "setup", "--yes", "--mode", "rl", "--rl-model", "smollm2")
    assert (done.returncode, "NO JUDGE" in done.stderr) == (0, False)


def test_a_training_server_on_this_machine_gets_the_key_that_the_learner_sends(tmp_path: Path):
    metaclaw(tmp_path, "setup", "--yes", "--mode", "rl", "--rl-model", "smollm2")
    settings, _ = read_settings(tmp_path, {})
    assert settings.rl.remote_api_key == settings.train_server.api_key
    assert len(settings.rl.remote_api_key.get_secret_value()) >= 32
    metaclaw(tmp_path, "setup", "--yes", "--remote-url", "http://gpu.example:8000", "--remote-api-key", "theirs")
    assert read_settings(tmp_path, {})[0].rl.remote_api_key.get_secret_value() == "theirs"


def test_a_broken_file_is_never_rewritten(tmp_path: Path):
    """PITFALLS, run under faults: `config` on a broken file replaced it with defaults, and the API key was lost."""
    path = tmp_path / "config.yaml"
    path.write_text("llm:\n  api_key: sk-precious\n\tapi_base: x\n")
    for command in (("setup", "--yes", *UPSTREAM), ("config", "llm.model_id", "m"), ("config", "show"), ("start",)):
        done = metaclaw(tmp_path, *command)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "line 3" in done.stderr
        assert "sk-precious" not in done.stderr
    assert path.read_text() == "llm:\n  api_key: sk-precious\n\tapi_base: x\n"


def test_on_a_terminal_it_asks_and_keys_are_not_echoed(tmp_path: Path):
    answers = ["often", "skills_only", "", "http://127.0.0.1:9/v1", "m", "sk-typed", "30001", "", "none"]
    shown = _type_on_a_terminal(tmp_path, answers)
    assert "'often' is not one of" in shown
    assert "Base URL of an OpenAI-compatible API" in shown
    assert "sk-typed" not in shown
    settings, _ = read_settings(tmp_path, {})
    assert settings.llm.api_key.get_secret_value() == "sk-typed"
    assert settings.proxy.port == 30001
    assert not settings.evolver.has_place


def test_a_provider_that_is_known_needs_no_url(tmp_path: Path):
    shown = _type_on_a_terminal(tmp_path, ["skills_only", "anthropic", "", "claude-x", "sk-typed", "", "y", "none"])
    assert "Base URL" not in shown
    assert "moonshot" in shown
    llm = read_settings(tmp_path, {})[0].llm
    assert (llm.provider, llm.api_base, llm.model_id) == ("anthropic", "", "claude-x")
    settings = read_settings(tmp_path, {})[0]
    for learns in (settings.rl.judge, settings.evolver):
        assert (learns.provider, learns.url, learns.model) == ("anthropic", "", "claude-x")
        assert learns.api_key.get_secret_value() == "sk-typed"
    _type_on_a_terminal(tmp_path, ["", "ollama", "qwen3:8b", "", "none"])  # a program on this machine needs no key
    assert read_settings(tmp_path, {})[0].llm.provider == "ollama"


def test_another_provider_takes_the_url_and_the_key_of_the_one_before_away(tmp_path: Path):
    assert metaclaw(tmp_path, "setup", "--yes", *UPSTREAM).returncode == 0
    assert metaclaw(tmp_path, "setup", "--yes", "--provider", "openai").returncode == 0
    llm = read_settings(tmp_path, {})[0].llm
    assert (llm.provider, llm.api_base, llm.model_id) == ("openai", "", "m")
    assert llm.api_key.get_secret_value() == ""
    assert (
        metaclaw(tmp_path, "setup", "--yes", "--provider", "openai", "--api-base", "http://127.0.0.1:8/v1").returncode
        == 0
    )
    assert read_settings(tmp_path, {})[0].llm.api_base == "http://127.0.0.1:8/v1"


def test_a_subscription_needs_no_key_and_is_left_with_its_provider(tmp_path: Path):
    """SPEC A4: the set-up offered the subscriptions of three vendors."""
    _type_on_a_terminal(tmp_path, ["skills_only", "anthropic", "oauth_token", "claude-x", "token-typed", "", "none"])
    llm = read_settings(tmp_path, {})[0].llm
    assert (llm.auth_method, llm.oauth_token.get_secret_value(), llm.api_key.get_secret_value()) == (
        "oauth_token", "token-typed", "",
    )  # fmt: skip
    shown = _type_on_a_terminal(tmp_path, ["", "openai-codex", "codex-x", "", "", "none"])
    assert "API key" not in shown
    llm = read_settings(tmp_path, {})[0].llm
    assert (llm.provider, llm.auth_method, llm.oauth_token.get_secret_value()) == ("openai-codex", "oauth_token", "")
    assert metaclaw(tmp_path, "setup", "--yes", "--provider", "openai").returncode == 0
    assert read_settings(tmp_path, {})[0].llm.auth_method == "api_key"
    assert metaclaw(tmp_path, "setup", "--yes", "--provider", "openai-codex").returncode == 0
    assert read_settings(tmp_path, {})[0].llm.auth_method == "oauth_token"


def test_who_answers_learns_from_failures_where_that_is_asked_for(tmp_path: Path):
    assert metaclaw(tmp_path, "setup", "--yes", *UPSTREAM, "--learn").returncode == 0
    settings = read_settings(tmp_path, {})[0]
    assert (settings.evolver.url, settings.evolver.model) == ("http://127.0.0.1:9/v1", "m")
    assert settings.rl.judge.has_model
    done = metaclaw(tmp_path, "setup", "--yes", "--learn", "--model-id", "other")
    assert (done.returncode, "--learn needs" in done.stderr) == (2, True)
    assert read_settings(tmp_path, {})[0].llm.model_id == "m"


def test_learning_with_a_key_that_is_not_told_is_refused(tmp_path: Path):
    given = ("setup", "--yes", "--provider", "openai", "--model-id", "m", "--learn")
    done = metaclaw(tmp_path, *given, env={"METACLAW_LLM_API_KEY": "sk-in-a-variable"})
    assert (done.returncode, "--learn needs" in done.stderr) == (2, True)
    assert metaclaw(tmp_path, *given, "--provider", "ollama").returncode == 0  # a program on this machine needs none


def test_a_key_and_a_model_that_are_missing_are_said_before_a_client_hears_of_it(tmp_path: Path):
    told = metaclaw(tmp_path / "a", "setup", "--yes", "--provider", "anthropic").stderr
    assert "NO KEY: Anthropic" in told
    assert "llm.auth_method oauth_token" in told
    assert "NO MODEL" in told
    for flags in (
        ("--provider", "openai", "--api-key", "sk-x", "--model-id", "m"),
        ("--provider", "ollama", "--model-id", "m"),
        ("--provider", "bedrock", "--model-id", "m"),
        ("--api-base", "http://127.0.0.1:9/v1", "--model-id", "m"),
    ):
        assert "NO " not in metaclaw(tmp_path / "b", "setup", "--yes", *flags).stderr


def test_mode_rl_needs_consent_on_a_terminal(tmp_path: Path):
    """PITFALLS R15: another model than the one that was chosen answered, without a word."""
    answers = ["rl", "smollm2", "", "", "my_checks:score", "", "", "", "n"]
    shown = _type_on_a_terminal(tmp_path, answers)
    assert "in place of the strong one" in shown
    assert not (tmp_path / "config.yaml").exists()


def test_mode_rl_asks_for_the_model_that_answers_when_the_training_server_is_down(tmp_path: Path):
    fallback = ["http://127.0.0.1:9/v1", "strong", "sk-typed"]
    shown = _type_on_a_terminal(tmp_path, ["rl", "smollm2", "", "", "my_checks:score", "", *fallback, "", "y", "none"])
    assert "answers while the training server is down" in shown
    llm = read_settings(tmp_path, {})[0].llm
    assert (llm.api_base, llm.model_id, llm.api_key.get_secret_value()) == tuple(fallback)


def test_mode_auto_asks_when_nobody_is_there(tmp_path: Path):
    windows = ["22:30", "", "20", "https://x.example/private-1.ics", "", "y", "none"]
    shown = _type_on_a_terminal(tmp_path, ["auto", "smollm2", "", "", "my_checks:score", "", "", "", *windows])
    assert "You get up at [07:00]" in shown
    assert "private-1" not in shown
    scheduler = read_settings(tmp_path, {})[0].scheduler
    assert (scheduler.sleep_start, scheduler.idle_threshold_minutes, scheduler.calendar.enabled) == ("22:30", 20, True)


def _type_on_a_terminal(home: Path, answers: list[str]) -> str:
    """Run ``metaclaw setup`` on a pseudo-terminal; answer each prompt as it comes."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*METACLAW, "setup"], env=environment(home), stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    shown, waiting = "", list(answers)
    try:
        while chunk := os.read(master, 4096):
            shown += chunk.decode()
            if shown.endswith(": ") and waiting:
                os.write(master, f"{waiting.pop(0)}\n".encode())
    except OSError:  # Linux says so when the other end is closed
        pass
    finally:
        os.close(master)
        process.wait(10)
    assert not waiting, shown
    return shown
