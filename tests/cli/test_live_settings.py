"""Settings that are changed while MetaClaw runs, with the real programs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

from metaclaw.config_file import read_settings, set_values
from tests.cli.programs import ask, metaclaw, started, status, until, upstream


def policy_of(home: Path, agent: str) -> str | None:
    """The policy that answers ``agent``, ``None`` where another model does."""
    token = read_settings(home, {})[0].proxy.api_key.get_secret_value()
    request = urllib.request.Request(f"{status(home)['url']}/agents/{agent}/v1/models")
    request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())["data"][0].get("policy")
    except urllib.error.HTTPError:
        return None  # the model of the test has no list


def test_an_agents_mode_changes_while_everything_runs_and_a_broken_file_changes_nothing(home: Path):
    set_values(home, {"rl.model": "base", "rl.remote_api_key": "k", "rl.remote_url": "http://127.0.0.1:9"})
    log = home / "start.log"
    with started(home):
        until(lambda: status(home)["children"].get("learner"))
        before = status(home)["children"]
        assert policy_of(home, "research") is None
        assert metaclaw(home, "config", "agents.research.mode", "rl").returncode == 0
        until(lambda: policy_of(home, "research") == "research@0")
        until(lambda: status(home)["children"].get("learner") not in (None, before["learner"]))
        assert status(home)["children"]["gateway"] == before["gateway"], "nobody who talks to it was cut off"
        assert policy_of(home, "assistant") is None
        assert ask(home) == "hello from upstream"

        good = (home / "config.yaml").read_text()
        (home / "config.yaml").write_text(good.replace("mode: rl", "mode: lr"))
        until(lambda: "NOT taken up, the settings of before stay in force: agents.research.mode" in log.read_text())
        (home / "config.yaml").write_text(good.replace("mode: rl", "mode: skills_only"))
        until(lambda: policy_of(home, "research") is None)

        assert metaclaw(home, "config", "llm.provider", "nobody-knows").returncode == 0
        assert metaclaw(home, "config", "llm.api_base", "").returncode == 0
        until(lambda: "NOT taken up, the settings of before stay in force: llm.api_base" in log.read_text())
        assert ask(home) == "hello from upstream"
        with upstream("hello from another") as url:
            set_values(home, {"llm.provider": "custom", "llm.api_base": url, "journal.max_age_days": 9})
            until(lambda: ask(home) == "hello from another")
        assert status(home)["children"]["gateway"] == before["gateway"]


def test_a_mode_that_what_runs_cannot_take_up_is_said_where_it_is_written_and_by_status(home: Path):
    """It was in the log alone: `mode: rl`, exit code 0, and another model went on answering."""
    with started(home):
        refused = metaclaw(home, "config", "mode", "rl")
        assert "goes on with the settings of before: mode 'rl' needs rl.model" in refused.stderr
        until(lambda: status(home)["settings_trouble"])
        assert "CONFIGURATION: not taken up: mode 'rl' needs rl.model" in metaclaw(home, "status").stdout
        assert metaclaw(home, "config", "rl.model", "base").returncode == 0
        until(lambda: "start again" in status(home)["settings_trouble"])
        assert "start again" in metaclaw(home, "config", "mode", "auto").stderr
        assert metaclaw(home, "config", "mode", "skills_only").stderr == ""
        of_one = metaclaw(home, "config", "agents.night.llm.provider", "nobody-knows")
        assert "goes on with the settings of before: agents.night.llm" in of_one.stderr
        assert metaclaw(home, "config", "agents.night.llm.provider", "ollama").stderr == ""
        until(lambda: not status(home)["settings_trouble"])
    with started(home, "--mode", "skills_only"):
        overruled = metaclaw(home, "config", "mode", "auto")
        assert "stays in mode skills_only: what it was started with" in overruled.stderr


def test_what_counts_from_the_next_start_on_is_said_where_it_is_written(home: Path):
    """It was in the log alone: who set other sleep hours saw the old ones go on without a word."""
    with started(home):
        later = metaclaw(home, "config", "scheduler.sleep_start", "01:00")
        at_once = metaclaw(home, "config", "llm.max_retry_s", "3")
    assert "when it is started again" in later.stderr
    assert at_once.returncode == 0, at_once.stderr
    assert "started again" not in at_once.stderr
    assert "started again" not in metaclaw(home, "config", "scheduler.sleep_start", "02:00").stderr
