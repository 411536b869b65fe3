"""``metaclaw start``, ``stop`` and ``status`` with the real gateway."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import urllib.error
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from metaclaw.config_file import set_values
from metaclaw.journal.database import open_writer
from tests.cli.programs import METACLAW, ask, environment, metaclaw, started, status, until


def test_a_started_gateway_answers_and_ends_with_everything_on_sigterm(home: Path):
    with started(home) as process:
        now = status(home)
        assert now["running"]
        assert now["mode"] == "skills_only"
        assert list(now["children"]) == ["gateway", "learner"]  # it remembers in every mode
        assert ask(home) == "hello from upstream"
        process.terminate()
        assert process.wait(20) == 0
    assert not psutil.pid_exists(now["children"]["gateway"])
    assert status(home) == {"running": False, "healthy": False}


def test_it_serves_on_where_nobody_reads_its_output_any_more(home: Path):
    """`metaclaw start &` in a terminal that was closed: the death of its learner, which is started again, ended all."""
    output, its_output = os.pipe()
    process = subprocess.Popen(
        [*METACLAW, "start"], env=environment(home), stdin=subprocess.DEVNULL, stdout=its_output, stderr=its_output
    )
    os.close(its_output)
    try:
        until(lambda: process.poll() is not None or status(home)["healthy"])
        learner = status(home)["children"]["learner"]
        os.close(output)
        os.kill(learner, signal.SIGKILL)
        until(lambda: process.poll() is not None or status(home)["children"]["learner"] not in (None, learner))
        assert process.poll() is None
        assert ask(home) == "hello from upstream"
    finally:
        process.terminate()
        process.wait(30)


def test_that_nothing_is_trained_for_want_of_a_judge_is_said_where_one_looks(home: Path):
    """It was told that no learner runs, beside the number of the learner's process."""
    set_values(home, {"mode": "auto", "rl.model": "m"})
    with started(home):
        for command in (("status",), ("scheduler", "status")):
            told = metaclaw(home, *command).stdout
            assert "training: nothing is scored, so nothing is trained: set rl.judge.verifier" in told
            assert "no learner runs" not in told


@pytest.mark.parametrize("provider", ["ollama", "openai"])
def test_the_name_of_a_provider_is_enough_to_start(tmp_path: Path, provider: str):
    home = tmp_path / "home"
    done = metaclaw(home, "setup", "--yes", "--provider", provider, "--api-key", "sk-x", "--port", "0")
    assert done.returncode == 0, done.stderr
    with started(home):
        assert status(home)["healthy"]


def test_in_the_background_it_answers_when_the_command_returns(home: Path):
    done = metaclaw(home, "start", "--daemon")
    assert done.returncode == 0, done.stderr
    assert ask(home) == "hello from upstream"
    log = home / "metaclaw.log"
    assert log.stat().st_mode & 0o777 == 0o600
    assert "starting on http://127.0.0.1:" in log.read_text()
    assert metaclaw(home, "status").stdout.startswith("MetaClaw answers on http://127.0.0.1:")
    said = json.loads(metaclaw(home, "status", "--json").stdout)
    assert said.pop("recording")["journal"] == "ok"
    said.pop("skills", None)
    assert said.pop("judging")["tokens"] == 0
    assert said.pop("teaching")["tokens"] == 0
    (upstream,) = said.pop("upstreams")
    assert (upstream["credential"], upstream["state"], upstream["num_requests"]) == ("llm.api_key", "ready", 1)
    assert said == {**status(home), "training": None, "agents": {}, "learning": [], "learning_trouble": None}
    second = metaclaw(home, "start", "-d")
    assert second.returncode == 1
    assert f"already runs on {home}" in second.stderr
    assert metaclaw(home, "stop").stdout.startswith("stopped (pid ")
    assert metaclaw(home, "stop").stdout == "MetaClaw is not running\n"


def test_status_says_that_what_was_learned_cannot_be_read_and_the_rest_all_the_same(home: Path):
    (home / "learning.db").write_bytes(b"no database, and long enough to be looked at " * 100)
    said = metaclaw(home, "status").stdout
    assert said.startswith("MetaClaw is not running")
    assert "LEARNING: cannot read the journal" in said
    told = json.loads(metaclaw(home, "status", "--json").stdout)
    assert (told["running"], told["learning"], told["skills"]) == (False, [], None)
    assert "learning.db" in told["learning_trouble"]


def test_status_says_which_key_is_left_alone_and_for_how_long(home: Path):
    """SPEC A7: `auth status` showed how long a key of a provider was left alone."""
    set_values(home, {"llm.api_base": "http://127.0.0.1:9/v1", "llm.max_retry_s": 0})
    with started(home):
        with pytest.raises(urllib.error.HTTPError):
            ask(home)
        lines = metaclaw(home, "status").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("UPSTREAM")]
    assert line.startswith("UPSTREAM llm.api_key (")
    assert "failures since the start: " in line


def test_status_says_what_no_file_holds_yet(home: Path):
    with started(home), closing(sqlite3.connect(home / "turns.db", isolation_level=None)) as other:
        (home / "spool").rmdir()
        (home / "spool").touch()  # nothing can be written there
        other.execute("BEGIN IMMEDIATE")
        ask(home)
        until(lambda: "RECORDING: turns.db cannot be written" in metaclaw(home, "status").stdout)
        assert "2 of them in memory alone" in metaclaw(home, "status").stdout
        other.execute("COMMIT")
        until(lambda: json.loads(metaclaw(home, "status", "--json").stdout)["recording"]["records_in_memory"] == 0)


def test_a_killed_gateway_is_back_before_the_user_asks_again(home: Path):
    with started(home):
        first = status(home)["children"]["gateway"]
        os.kill(first, signal.SIGKILL)
        until(lambda: status(home).get("children", {}).get("gateway") not in (None, first) and status(home)["healthy"])
        assert ask(home) == "hello from upstream"


def test_after_kill_9_of_start_its_gateway_ends_and_the_next_start_works_at_once(home: Path):
    with started(home) as process:
        gateway = status(home)["children"]["gateway"]
        process.kill()
        process.wait()
        with started(home):
            assert is_gone(gateway)
            assert ask(home) == "hello from upstream"


def is_gone(pid: int) -> bool:
    # Where nobody reaps the orphans of a killed process, they stay as zombies.
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_flags_hold_for_one_run_and_leave_the_file_alone(home: Path):
    before = (home / "config.yaml").read_text()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with started(home, "--port", str(port)):
        assert status(home)["url"] == f"http://127.0.0.1:{port}"
    assert (home / "config.yaml").read_text() == before


def test_a_taken_port_is_one_line_that_names_it_and_the_way_out(home: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for flags in ((), ("--daemon",)):
            done = metaclaw(home, "start", "--port", str(port), *flags)
            assert done.returncode == 1
            line = done.stderr.splitlines()[-1]
            assert f"cannot listen on 127.0.0.1:{port}" in line
            assert "--port N" in line
            assert "Traceback" not in done.stderr


def test_in_the_background_too_settings_that_the_learner_refuses_are_an_error_with_its_reason(home: Path):
    """The gateway answers before the learner has looked at its settings, and everything ended after a success."""
    set_values(home, {"rl.judge.verifier": "no_such_module:score"})
    done = metaclaw(home, "start", "--daemon")
    assert done.returncode == 2
    assert "the learner refused its settings: " in done.stderr
    assert "no_such_module" in done.stderr
    assert status(home) == {"running": False, "healthy": False}


def test_start_without_settings_names_setup(tmp_path: Path):
    done = metaclaw(tmp_path / "nothing", "start")
    assert done.returncode == 2
    assert done.stderr == f"metaclaw: there are no settings in {tmp_path / 'nothing'} yet; run `metaclaw setup` first\n"
    assert not (tmp_path / "nothing").exists()


def test_start_refuses_what_could_not_answer(home: Path):
    assert metaclaw(home, "config", "llm.api_base", "").returncode == 0
    done = metaclaw(home, "start")
    assert done.returncode == 2
    assert "neither llm.provider nor llm.api_base is set" in done.stderr
    done = metaclaw(home, "start", "--mode", "rl")
    assert done.returncode == 2
    assert "needs rl.model" in done.stderr


def test_without_a_token_nothing_starts(home: Path):
    """PITFALLS S1: an empty key there meant that everybody was let in."""
    assert metaclaw(home, "config", "proxy.api_key", "").returncode == 0
    done = metaclaw(home, "start")
    assert done.returncode == 2
    assert "proxy.api_key" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_says_what_was_learned(tmp_path: Path):
    with closing(open_writer(tmp_path / "learning.db", "learning")) as connection:
        connection.execute(
            "INSERT INTO judgements (exchange, agent, state, score, judge, detail, judged_at)"
            " VALUES ('e1', 'main', 'judged', 1.0, 'j', '{}', 0)"
        )
        connection.execute(
            "INSERT INTO samples (turn, exchange, agent, version, reward, state, sampled_at, changed_at)"
            " VALUES ('t1', 'e1', 'main', 0, 1.0, 'pending', 0, 0)"
        )
        connection.execute("INSERT INTO updates VALUES (7, 'main', 0, 'rejected', 'KL is over the limit', '{}', 0, 1)")
    done = metaclaw(tmp_path, "status", env={"TZ": "UTC"})
    assert done.returncode == 1
    assert done.stdout.splitlines()[1:] == ["main: 1 exchange judged"], "in skills_only no policy answers"
    done = metaclaw(tmp_path, "status", env={"TZ": "UTC", "METACLAW_MODE": "rl"})
    assert done.stdout.splitlines()[1] == (
        "main: the base model serves; 1 exchange judged, 1 turn waits;"
        " update 7 rejected at 1970-01-01 00:00: KL is over the limit"
    )
    learning = json.loads(metaclaw(tmp_path, "status", "--json").stdout)["learning"]
    assert learning[0]["last_update"]["id"] == 7
