"""``metaclaw scheduler`` and ``metaclaw train-step`` without a learner: how things stand, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metaclaw.cli.main import app
from metaclaw.config_file import set_values
from metaclaw.errors import ConfigError


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("METACLAW_HOME", str(home))
    values = {"mode": "auto", "rl.model": "smollm2", "proxy.api_key": "k", "scheduler.idle_source": "requests"}
    set_values(home, values)
    return home


def test_without_a_learner_it_says_how_things_stand_all_the_same(home: Path):
    set_values(home, {"scheduler.sleep_start": "00:00", "scheduler.sleep_end": "23:59"})
    text = run("scheduler", "status")
    assert text.startswith("training: no learner runs (`metaclaw start`)")
    assert "idle      yes  the agent was never asked anything" in text
    told = json.loads(run("scheduler", "status", "--json"))
    assert (told["in_windows"], told["state"], told["is_open"]) == (True, "stopped", True)
    assert [condition["name"] for condition in told["conditions"]] == ["sleep", "idle", "calendar", "requests"]
    assert run("scheduler", "next-window").startswith("a window is open now")


def test_a_calendar_is_read_for_the_answer(home: Path):
    event = "BEGIN:VEVENT\r\nUID:1\r\nDTSTART:20000101T000000Z\r\nDTEND:20990101T000000Z\r\nEND:VEVENT\r\n"
    (home / "mine.ics").write_text(f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n{event}END:VCALENDAR\r\n")
    set_values(home, {"scheduler.calendar.path": "mine.ics", "scheduler.calendar.enabled": True})
    conditions = json.loads(run("scheduler", "status", "--json"))["conditions"]
    assert conditions[2]["says"] == "the calendar is busy"
    (home / "mine.ics").unlink()
    conditions = json.loads(run("scheduler", "status", "--json"))["conditions"]
    assert conditions[2]["is_met"] is None


def test_modes_without_windows_say_when_they_train(home: Path):
    set_values(home, {"mode": "rl"})
    assert "trains whenever enough was judged, at any time" in run("scheduler", "status")
    assert json.loads(run("scheduler", "next-window", "--json"))["in_windows"] is False
    set_values(home, {"scheduler.enabled": True})
    assert json.loads(run("scheduler", "next-window", "--json"))["in_windows"] is True


@pytest.mark.parametrize("mode", ["rl", "auto"])
def test_where_training_waits_for_a_word_no_window_is_told_of(home: Path, mode: str):
    set_values(home, {"mode": mode, "rl.update.when_asked_only": True})
    assert "before somebody asks for it: `metaclaw train-step`" in run("scheduler", "next-window")
    told = json.loads(run("scheduler", "status", "--json"))
    assert (told["in_windows"], told["is_open"]) == (False, False)


def test_a_training_step_needs_a_judge_a_mode_that_trains_and_somebody_who_does(home: Path):
    with pytest.raises(ConfigError, match=r"nothing is scored.*rl\.judge\.verifier"):
        run("train-step")
    set_values(home, {"rl.judge.verifier": "checks:score"})
    with pytest.raises(ConfigError, match="metaclaw start"):
        run("train-step")
    set_values(home, {"mode": "skills_only"})
    with pytest.raises(ConfigError, match="trains nothing"):
        run("train-step")
    with pytest.raises(ConfigError, match=r"scheduler\.calendar\.credentials_path"):
        run("scheduler", "login")
