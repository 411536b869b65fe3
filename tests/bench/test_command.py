"""``metaclaw bench`` as a user runs it, and what it is for: an agent that is told once, with and without MetaClaw."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.bench.test_playing import DAYS
from tests.cli.programs import METACLAW, environment, metaclaw, started
from tests.fakes.apprentice import Apprentice
from tests.fakes.llm import Answer, FakeLlm, fake_llm

pytestmark = pytest.mark.anyio


def settings(home: Path, url: str, *, remembers: bool) -> None:
    home.mkdir(mode=0o700)
    told = {
        "mode": "skills_only",
        "llm": {"provider": "fake", "api_base": url, "model_id": "m", "api_key": "x"},
        "proxy": {"port": 0, "api_key": "bench-token"},
        "skills": {"starter": False},
        "memory": {"enabled": remembers},
    }
    (home / "config.yaml").write_text(json.dumps(told), encoding="utf-8")
    (home / "config.yaml").chmod(0o600)


def scores(out: Path) -> dict[str, list[float]]:
    days = {path.name[:5]: json.loads(path.read_text()) for path in sorted(out.glob("*.day.json"))}
    return {name: [one["score"] for one in day["rounds"] if one["type"] == "file_check"] for name, day in days.items()}


@pytest.mark.slow
async def test_what_a_user_says_once_holds_on_the_days_after_it_with_a_memory_alone(tmp_path: Path) -> None:
    """SPEC A14: the days are played by the running programs, and the two runs are compared.

    The model does what it has been told, so that what it gets right on a later day was before it.
    """
    outs = {True: tmp_path / "with", False: tmp_path / "without"}

    def played(home: Path, url: str, *, remembers: bool) -> Any:
        settings(home, url, remembers=remembers)
        with started(home):
            return metaclaw(home, "bench", "run", str(DAYS), "--out", str(outs[remembers]), "--patience-s", "60")

    async with fake_llm() as llm:
        llm.script = Apprentice()
        for remembers in outs:
            ran = await asyncio.to_thread(played, tmp_path / f"home-{remembers}", llm.url, remembers=remembers)
            assert ran.returncode == 0, ran.stderr
    assert "6 days, 20 rounds" in ran.stdout
    assert "day by day           0.67 0.67 0.50 0.33 0.67 0.25" in ran.stdout
    assert scores(outs[False]) == {
        "day01": [0, 1], "day02": [0, 1], "day03": [0, 1, 0], "day04": [0, 0], "day05": [0, 1], "day06": [0, 0, 0],
    }  # fmt: skip
    assert scores(outs[True]) == {
        "day01": [0, 1], "day02": [1, 1], "day03": [0, 1, 1], "day04": [1, 1], "day05": [0, 1], "day06": [1, 1, 1],
    }, "each wish is missed once, on the day on which it is first said"  # fmt: skip
    told = metaclaw(tmp_path / "home-True", "bench", "report", str(outs[False]), str(outs[True]), "--json")
    work = json.loads(told.stdout)[1]["difference"]["completion"]
    assert work["rounds"] == 14
    assert work["mean"] == pytest.approx(7 / 14)
    assert 0 < work["interval"][0] < work["mean"] < work["interval"][1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_run_that_is_ended_leaves_no_folder_of_a_day(tmp_path: Path, number: signal.Signals) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()

    async def ended(llm: FakeLlm) -> int:
        command = [*METACLAW, "bench", "run", str(DAYS), "--out", str(tmp_path / "out")]
        env = environment(home) | {"TMPDIR": str(temporary)}
        process = await asyncio.create_subprocess_exec(*command, env=env)
        await llm.is_held.wait()
        assert list(temporary.glob("metaclaw-day-*"))
        process.send_signal(number)
        return await process.wait()

    async with fake_llm() as llm:
        settings(home, llm.url, remembers=False)
        llm.script = lambda _: Answer(hold_after=0)
        with started(home):
            assert await ended(llm) == 130
    assert not list(temporary.glob("metaclaw-day-*"))


def test_what_cannot_work_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    settings(home, "http://127.0.0.1:9/v1", remembers=True)
    run = ("bench", "run", str(DAYS), "--out", str(out))
    for options, said in [
        ((), "no gateway runs on this home"),
        (("--concurrency", "2"), "--concurrency needs --frozen"),
        (("--frozen", "--train-every", "2"), "--frozen learns nothing"),
        (("--train-every", "2"), "mode 'skills_only' trains nothing"),
        (("--days", "5-9"), "the dataset has days 1 to 6"),
        (("--days", "one"), "a number or two with a dash between"),
    ]:
        refused = metaclaw(home, *run, *options)
        assert (refused.returncode, refused.stdout) == (2, ""), refused
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr
    assert not list(out.glob("*.day.json"))
    nothing = metaclaw(home, "bench", "report", str(tmp_path))
    assert nothing.returncode == 2
    assert "`metaclaw bench run` makes one" in nothing.stderr
    listed = metaclaw(home, "bench", "check", str(DAYS))
    assert listed.stdout.splitlines()[0] == "day01\t2 pieces of work, 1 question\thow notes begin"
    assert len(listed.stdout.splitlines()) == 6
