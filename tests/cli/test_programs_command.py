"""``metaclaw connect``, ``disconnect``, ``programs`` and ``uninstall``, as a person or a script uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from click.testing import Result
from typer.testing import CliRunner

from metaclaw.agents.programs.registry import PROGRAMS
from metaclaw.cli.main import app
from metaclaw.config.settings import AgentProgramName
from metaclaw.config_file import load_settings, set_values
from metaclaw.errors import ConfigError, MetaClawError, WiringError
from metaclaw.http.auth import digest
from metaclaw.journal.access_store import AccessStore, AccessToken
from metaclaw.training.data_dir import alone_in
from tests.agents.configs import CLAUDE_CODE, OPENCLAW

Run = Callable[..., Result]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of somebody who has Claude Code and OpenClaw; MetaClaw's is in it, set up."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("METACLAW_HOME", str(tmp_path / "metaclaw"))
    for name in ("CLAUDE_CONFIG_DIR", "OPENCLAW_CONFIG_PATH", "OPENCLAW_STATE_DIR", "CODEX_HOME"):
        monkeypatch.delenv(name, raising=False)
    for path, text in ((".claude/settings.json", CLAUDE_CODE), (".openclaw/openclaw.json", OPENCLAW)):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(text)
        (tmp_path / path).chmod(0o600)
    set_values(tmp_path / "metaclaw", {"llm.api_base": "http://127.0.0.1:9/v1", "proxy.port": 4321})
    return tmp_path


@pytest.fixture
def run(user: Path) -> Run:
    def run(*words: str, answer: str = "") -> Result:
        done = CliRunner().invoke(app, words, input=answer)
        if isinstance(done.exception, MetaClawError):
            raise done.exception
        return done

    return run


def in_use(user: Path) -> dict[bytes, AccessToken]:
    store = AccessStore.open(user / "metaclaw" / "access.db")
    try:
        return store.in_use()
    finally:
        store.close()


def test_a_program_is_connected_with_a_token_of_its_own_and_disconnected(user: Path, run: Run):
    settings = user / ".claude" / "settings.json"
    done = run("connect", "claude-code", "--agent", "Ops", answer="y\n")
    assert done.exit_code == 0, done.output
    assert "agent ops" in done.output
    env = json.loads(settings.read_text().replace("// allowed without asking", ""))["env"]
    assert (env["ANTHROPIC_BASE_URL"], env["EDITOR"]) == ("http://127.0.0.1:4321", "vim")
    assert env["ANTHROPIC_AUTH_TOKEN"] not in done.output
    assert in_use(user)[digest(env["ANTHROPIC_AUTH_TOKEN"])].agent == "ops"
    assert "nothing to do" in run("connect", "claude-code", "--agent", "ops", "--yes").output
    assert len(in_use(user)) == 1
    assert run("disconnect", "claude-code", "--yes").exit_code == 0
    assert settings.read_text() == CLAUDE_CODE
    assert in_use(user) == {}


@pytest.mark.parametrize("words", [("--dry-run",), ("--dry-run", "--json"), ()], ids=str)
def test_who_does_not_say_yes_has_nothing_changed(user: Path, run: Run, words: tuple[str, ...]):
    done = run("connect", "openclaw", *words, answer="n\n")
    assert "http://127.0.0.1:4321/v1" in done.output
    assert (user / ".openclaw" / "openclaw.json").read_text() == OPENCLAW
    assert in_use(user) == {}
    assert [path.name for path in (user / "metaclaw" / "agents").iterdir()] == [".lock"]


def test_programs_says_how_each_stands(user: Path, run: Run):
    assert run("connect", "openclaw", "--yes", "--json").exit_code == 0
    states = {facts["name"]: facts for facts in json.loads(run("programs", "--json").output)}
    assert states["openclaw"]["state"] == "connected"
    assert states["openclaw"]["endpoint"] == "http://127.0.0.1:4321/v1"
    assert (states["claude-code"]["state"], states["codex"]["state"]) == ("found", "absent")
    plugin = user / "metaclaw" / "agents" / "openclaw" / "plugin"
    assert {path.name for path in plugin.iterdir()} == {"index.js", "package.json", "openclaw.plugin.json"}


def test_connecting_again_after_an_upgrade_brings_the_plugins_up_to_date(user: Path, run: Run):
    """The copies that an older release had made stayed, and there was "nothing to do"."""
    words = ("connect", "openclaw", "--memory-slot", "--yes")
    assert run(*words).exit_code == 0
    wired, tokens = (user / ".openclaw" / "openclaw.json").read_text(), in_use(user)
    copy = user / "metaclaw" / "agents" / "openclaw" / "memory_plugin" / "index.js"
    today = copy.read_text()
    copy.write_text("export default {};\n")
    asked = run("connect", "openclaw", "--memory-slot", answer="n\n")
    assert f"replaces {copy.parent}, our plugin of another release" in asked.output
    assert copy.read_text() != today
    assert json.loads(run(*words, "--json").output)["plugins"] == [str(copy.parent)]
    assert (copy.read_text(), (user / ".openclaw" / "openclaw.json").read_text()) == (today, wired)
    assert in_use(user) == tokens
    assert "nothing to do" in run(*words).output
    assert run("disconnect", "openclaw", "--yes").exit_code == 0
    assert (user / ".openclaw" / "openclaw.json").read_text() == OPENCLAW


def test_the_memory_slot_is_taken_only_when_asked_for_and_given_back(user: Path, run: Run):
    path, plugins = user / ".openclaw" / "openclaw.json", user / "metaclaw" / "agents" / "openclaw"
    path.write_text('{"plugins": {"slots": {"memory": "memory-lancedb"}}}')
    with pytest.raises(ConfigError, match="claude-code has none"):
        run("connect", "claude-code", "--memory-slot", "--yes")
    assert run("connect", "openclaw", "--memory-slot", "--agent", "ops", "--yes").exit_code == 0
    wired = json.loads(path.read_text())["plugins"]
    assert wired["slots"] == {"memory": "metaclaw-memory"}
    assert wired["load"]["paths"] == [str(plugins / "plugin"), str(plugins / "memory_plugin")]
    assert wired["entries"]["metaclaw-memory"] == {"enabled": True, "config": {"nameAgent": False}}
    manifest = json.loads((plugins / "memory_plugin" / "openclaw.plugin.json").read_text())
    assert (manifest["id"], manifest["kind"]) == ("metaclaw-memory", "memory")
    run("connect", "openclaw", "--agent", "ops", "--yes")
    wired = json.loads(path.read_text())["plugins"]
    assert wired["slots"] == {"memory": "memory-lancedb"}
    assert list(wired["entries"]) == ["metaclaw"]
    run("disconnect", "openclaw", "--yes")
    assert path.read_text() == '{"plugins": {"slots": {"memory": "memory-lancedb"}}}'


def test_uninstalling_leaves_nothing_in_other_programs_and_the_home_unless_told(user: Path, run: Run):
    """PITFALLS B6: uninstall looked at the wrong key, and the provider stayed."""
    for name in ("openclaw", "claude-code"):
        run("connect", name, "--yes")
    assert run("uninstall", answer="n\n").exit_code == 1
    done = run("uninstall", "--yes")
    assert done.exit_code == 0, done.output
    assert (user / ".openclaw" / "openclaw.json").read_text() == OPENCLAW
    assert (user / ".claude" / "settings.json").read_text() == CLAUDE_CODE
    assert f"left: {user / 'metaclaw'}" in done.output
    assert (user / "metaclaw" / "config.yaml").exists()
    assert run("uninstall", answer="y\nyes\n").exit_code == 0
    assert not (user / "metaclaw").exists()


def test_a_home_from_which_a_training_server_runs_stays(user: Path, run: Run):
    server = user / "metaclaw" / "train-server"
    with alone_in(server):
        done = run("uninstall", "--yes", "--remove-home")
        assert done.exit_code == 1
        assert "training server" in done.output
        assert server.exists()
    assert run("uninstall", "--yes", "--remove-home").exit_code == 0
    assert not server.exists()


def test_a_program_that_cannot_be_disconnected_does_not_hold_up_the_others_and_nothing_is_removed(user: Path, run: Run):
    for name in ("openclaw", "claude-code"):
        run("connect", name, "--yes")
    (user / ".claude" / "settings.json").write_text("{")
    done = run("uninstall", "--yes", "--remove-home")
    assert done.exit_code == 1
    assert (user / ".openclaw" / "openclaw.json").read_text() == OPENCLAW
    copies = (user / "metaclaw" / "agents" / "claude-code" / "before").iterdir()
    assert [path.read_text() for path in copies] == [CLAUDE_CODE]


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (("connect", "codex", "--yes"), WiringError, "not on this machine"),
        (("connect", "clawd", "--yes"), WiringError, "openclaw, claude-code"),
        (("disconnect", "openclaw", "--yes"), WiringError, "is not connected"),
        (("connect", "openclaw", "--json"), ConfigError, "--yes"),
        (("connect", "openclaw", "--agent", "../x", "--yes"), MetaClawError, "agent id"),
    ],
    ids=str,
)
def test_what_cannot_be_done_says_why(run: Run, words: tuple[str, ...], error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        run(*words)


def test_setup_asks_which_program_names_those_that_are_here_first_and_connects_the_answer(user: Path, run: Run):
    settings = user / ".claude" / "settings.json"
    model = ("--mode", "skills_only", "--provider", "custom", "--api-base", "http://127.0.0.1:9/v1", "--model-id", "m")
    given = ("setup", *model, "--api-key", "sk-1", "--port", "4321", "--no-learn")
    done = run(*given, answer="clawd\nclaude\nn\n")
    assert done.exit_code == 0, done.output
    assert "on this machine: openclaw, claude-code\n" in done.output
    assert "program do you use (none: I connect mine myself) [openclaw]" in done.output
    assert "no agent program is called 'clawd'" in done.output
    assert "later: metaclaw connect claude-code" in done.output
    assert settings.read_text() == CLAUDE_CODE
    assert "[claude-code]" in run(*given, answer="\ny\n").output
    assert "http://127.0.0.1:4321" in settings.read_text()
    assert "is connected already" in run("connect").output  # which one: the answer was kept
    assert (user / ".openclaw" / "openclaw.json").read_text() == OPENCLAW


def test_setup_without_questions_connects_only_what_a_flag_names(user: Path, run: Run):
    assert "next: metaclaw connect openclaw" in run("setup", "--yes", "--model-id", "m").output
    assert (user / ".openclaw" / "openclaw.json").read_text() == OPENCLAW
    with pytest.raises(WiringError, match="not on this machine"):
        run("setup", "--yes", "--program", "codex")
    with pytest.raises(WiringError, match="'clawd'"):
        run("setup", "--yes", "--program", "clawd", "--model-id", "other")
    assert load_settings(user / "metaclaw").llm.model_id == "m"
    done = run("setup", "--yes", "--program", "openclaw")
    assert done.exit_code == 0
    assert "OPENAI_BASE_URL" not in done.output
    assert "http://127.0.0.1:4321/v1" in (user / ".openclaw" / "openclaw.json").read_text()


def test_setup_leaves_a_connection_as_it_is_but_for_another_port(user: Path, run: Run):
    run("connect", "openclaw", "--agent", "ops", "--memory-slot", "--yes")
    wired = (user / ".openclaw" / "openclaw.json").read_text()
    assert "openclaw is connected already" in run("setup", "--yes", "--program", "openclaw").output
    assert (user / ".openclaw" / "openclaw.json").read_text() == wired
    assert "agent ops" in run("setup", "--yes", "--program", "openclaw", "--port", "4322").output
    assert "http://127.0.0.1:4322/v1" in (user / ".openclaw" / "openclaw.json").read_text()


def test_connecting_without_a_name_asks_for_one(run: Run):
    with pytest.raises(ConfigError, match="set agent_program"):
        run("connect")


def test_the_settings_know_every_program():
    assert set(get_args(AgentProgramName)) == {"", *PROGRAMS}


def test_another_program_is_told_where_the_gateway_is(run: Run):
    done = run("connect", "none")
    assert "http://127.0.0.1:4321/v1" in done.output
    assert "metaclaw tokens create" in done.output
