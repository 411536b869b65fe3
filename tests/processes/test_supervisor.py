"""Children are real processes here; only what they run is a stand-in."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

from metaclaw.errors import ConfigError, ProcessError
from metaclaw.processes.supervisor import Patience, Program, Supervisor
from tests.processes.children import STUBBORN, obedient, program

pytestmark = pytest.mark.anyio
QUICK = Patience(first_delay_s=0.01, longest_delay_s=0.02, max_deaths=3, window_s=60.0, stop_s=0.4)
LINE = '{"proxy": {"api_key": "a-secret"}}'


class Watched:
    """A supervisor, what it reported, and the children it told of."""

    def __init__(self, *programs: Program, patience: Patience = QUICK) -> None:
        self.reports: list[str] = []
        self.children: Mapping[str, int | None] = {}
        self.supervisor = Supervisor(
            programs, LINE, report=self.reports.append, on_change=self._remember, patience=patience
        )

    def _remember(self, children: Mapping[str, int | None]) -> None:
        self.children = children

    async def pid(self, name: str, *, other_than: int | None = None) -> int:
        await _until(lambda: self.children.get(name) not in (None, other_than))
        pid = self.children[name]
        assert pid is not None
        return pid


async def _until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)  # files and processes have nobody to tell us


async def test_a_child_gets_its_settings_by_standard_input_and_no_secret_in_its_arguments(tmp_path: Path):
    """PITFALLS S7: what is in an argument list, every user of the machine can read."""
    log = tmp_path / "log"
    watched = Watched(obedient(log))
    running = asyncio.create_task(watched.supervisor.run())
    await _until(log.exists)
    await _until(lambda: "a-secret" in log.read_text())
    pid, argv, line = log.read_text().split(" ", 2)
    assert line.strip() == LINE
    assert "a-secret" not in argv
    assert "a-secret" not in " ".join(psutil.Process(int(pid)).cmdline())
    watched.supervisor.stop()
    await running


async def test_stop_ends_children_by_the_end_of_their_input(tmp_path: Path):
    log = tmp_path / "log"
    watched = Watched(obedient(log))
    running = asyncio.create_task(watched.supervisor.run())
    await _until(log.exists)
    watched.supervisor.stop()
    await running
    assert "ended by itself" in log.read_text()
    assert watched.children == {"gateway": None}


async def test_a_child_that_hears_nothing_is_killed_in_the_end():
    watched = Watched(program("gateway", STUBBORN))
    running = asyncio.create_task(watched.supervisor.run())
    pid = await watched.pid("gateway")
    await asyncio.sleep(0.3)  # until it ignores SIGTERM
    watched.supervisor.stop()
    await asyncio.wait_for(running, 5)
    assert not psutil.pid_exists(pid)


async def test_a_killed_child_is_started_again_and_gets_its_settings_again(tmp_path: Path):
    log = tmp_path / "log"
    watched = Watched(obedient(log))
    running = asyncio.create_task(watched.supervisor.run())
    first = await watched.pid("gateway")
    await _until(log.exists)
    os.kill(first, signal.SIGKILL)
    second = await watched.pid("gateway", other_than=first)
    await _until(lambda: log.read_text().count(LINE) == 2)
    assert second != first
    assert any("gateway ended with signal 9" in report for report in watched.reports)
    watched.supervisor.stop()
    await running


async def test_a_program_that_keeps_dying_is_given_up_with_the_reason():
    watched = Watched(program("gateway", "import sys; sys.exit(3)"))
    with pytest.raises(ProcessError, match="the gateway died 3 times in a row, last with code 3"):
        await asyncio.wait_for(watched.supervisor.run(), 10)


async def test_refused_settings_are_not_tried_again():
    watched = Watched(program("learner", "import sys; sys.exit(2)", is_essential=False))
    with pytest.raises(ConfigError, match="learner refused its settings"):
        await asyncio.wait_for(watched.supervisor.run(), 10)
    assert watched.reports == []


async def test_the_gateway_goes_on_without_a_learner_that_keeps_dying(tmp_path: Path):
    gateway = obedient(tmp_path / "log")
    watched = Watched(gateway, program("learner", "import sys; sys.exit(1)", is_essential=False))
    running = asyncio.create_task(watched.supervisor.run())
    await _until(lambda: any("goes on without it" in report for report in watched.reports))
    assert psutil.pid_exists(await watched.pid("gateway"))
    assert not running.done()
    watched.supervisor.stop()
    await running


async def test_the_gateway_goes_on_without_a_learner_that_cannot_be_started(tmp_path: Path):
    """Killed for want of memory, and no memory to start it again: that ended everything, with a traceback."""
    gone = Program(name="learner", command=(str(tmp_path / "gone"),), is_essential=False)
    watched = Watched(obedient(tmp_path / "log"), gone)
    running = asyncio.create_task(watched.supervisor.run())
    await _until(lambda: any("the rest goes on" in line for line in watched.reports))
    assert watched.reports[0] == "the learner cannot be started: No such file or directory"
    assert watched.children["gateway"] is not None
    watched.supervisor.stop()
    await running


async def test_a_gateway_that_cannot_be_started_is_given_up_with_the_reason(tmp_path: Path):
    watched = Watched(Program(name="gateway", command=(str(tmp_path / "gone"),)))
    with pytest.raises(ProcessError, match="the gateway died 3 times in a row, last with code 127"):
        await watched.supervisor.run()


async def test_when_the_gateway_is_given_up_the_learner_ends_too(tmp_path: Path):
    watched = Watched(program("gateway", "import sys; sys.exit(1)"), obedient(tmp_path / "log", "learner"))
    with pytest.raises(ProcessError):
        await asyncio.wait_for(watched.supervisor.run(), 10)
    assert watched.children == {"gateway": None, "learner": None}


async def test_children_end_when_the_supervisor_is_killed(tmp_path: Path):
    log = tmp_path / "log"
    code = (
        "import asyncio, pathlib\n"
        "from metaclaw.processes.supervisor import Supervisor\n"
        "from tests.processes.children import obedient\n"
        f"children = [obedient(pathlib.Path({str(log)!r}))]\n"
        "asyncio.run(Supervisor(children, 'x', report=print).run())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await _until(lambda: log.exists() and " x" in log.read_text())
    child = int(log.read_text().split()[0])
    parent.kill()
    await parent.wait()
    await _until(lambda: "ended by itself" in log.read_text())
    await _until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


async def test_a_change_reaches_who_takes_it_as_a_line_and_everybody_else_by_being_started_anew(tmp_path: Path):
    log, other = tmp_path / "kept", tmp_path / "anew"
    code = "import sys, pathlib\nfor line in sys.stdin: pathlib.Path(sys.argv[1]).open('a').write(line)"
    kept = Program(name="kept", command=(sys.executable, "-c", code, str(log)), takes_changes=True)
    anew = Program(name="anew", command=(sys.executable, "-c", code, str(other)), is_essential=False)
    watched = Watched(kept, anew)
    running = asyncio.create_task(watched.supervisor.run())
    first, second = await watched.pid("kept"), await watched.pid("anew")
    await _until(lambda: other.exists() and LINE in other.read_text())
    watched.supervisor.change("other settings")
    await watched.pid("anew", other_than=second)
    await _until(lambda: "other settings" in other.read_text())
    watched.supervisor.stop()
    await running
    assert log.read_text().split("\n") == [LINE, "other settings", ""]
    assert watched.reports == []
    assert first
