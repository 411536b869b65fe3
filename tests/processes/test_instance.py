from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metaclaw.errors import ProcessError
from metaclaw.locks import is_locked
from metaclaw.processes import background
from metaclaw.processes.instance import (
    DRAIN_S,
    Instance,
    PidFile,
    claim_port,
    held_pid_file,
    is_healthy,
    running_instance,
    stop_instance,
    url_of,
)

# Holds a home as `metaclaw start` does, with a child that inherits the second lock and outlives it by a second.
HOLDER = """
import os, subprocess, sys, time
from pathlib import Path
from metaclaw.processes.instance import Instance, held_pid_file
with held_pid_file(Path(sys.argv[1])) as pid_file:
    pid_file.write(Instance(pid=os.getpid(), mode="rl", url="http://127.0.0.1:1", started_at=0.0))
    subprocess.Popen([sys.executable, "-c", "import sys, time; sys.stdin.read(); time.sleep(1)"],
                     stdin=subprocess.PIPE, pass_fds=(pid_file.shared_fd,))
    print("held", flush=True)
    time.sleep(60)
"""


def hold(home: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(home)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def end(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()  # not communicate(): its child has the same output and lives on
    if holder.stdout:
        holder.stdout.close()


def me(home: Path) -> Instance:
    return Instance(pid=os.getpid(), mode="rl", url="http://127.0.0.1:1", started_at=0.0)


def test_a_second_instance_on_the_same_home_is_refused_by_name(tmp_path: Path):
    """PITFALLS, run under faults: a second instance on the same home truncated its records."""
    holder = hold(tmp_path)
    try:
        with pytest.raises(ProcessError, match=rf"already runs on .*pid {holder.pid}"), held_pid_file(tmp_path):
            pass
        assert running_instance(tmp_path) is not None
    finally:
        end(holder)


def test_a_killed_holder_leaves_no_stale_lock_but_its_children_are_waited_for(tmp_path: Path):
    end(hold(tmp_path))
    assert running_instance(tmp_path) is None
    started = time.monotonic()
    with held_pid_file(tmp_path) as pid_file:
        waited_s = time.monotonic() - started
        pid_file.write(me(tmp_path))
        assert running_instance(tmp_path) == me(tmp_path)
    assert waited_s > 0.5  # the child of the killed one still lived for a second
    assert running_instance(tmp_path) is None


def test_stop_returns_when_every_process_is_gone(tmp_path: Path):
    holder = hold(tmp_path)
    started = time.monotonic()
    instance = stop_instance(tmp_path)
    assert instance is not None
    assert instance.pid == holder.pid
    assert holder.wait() == -signal.SIGTERM
    assert time.monotonic() - started > 0.5  # its child took a second
    assert stop_instance(tmp_path) is None
    end(holder)


def test_an_instance_that_waits_for_the_children_of_a_killed_one_can_be_stopped(tmp_path: Path):
    end(hold(tmp_path))  # its child still lives for a second
    waiting = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.DEVNULL)
    while (found := running_instance(tmp_path)) is None or found.pid != waiting.pid:
        assert waiting.poll() is None
        time.sleep(0.02)
    stopped = stop_instance(tmp_path)
    assert stopped is not None
    assert stopped.pid == waiting.pid
    assert waiting.wait() == -signal.SIGTERM


def test_a_start_in_the_background_outlasts_the_wait_for_an_earlier_instance():
    assert background.READY_S >= DRAIN_S + 10


def test_a_file_that_cannot_be_locked_is_not_called_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(_handle: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / "metaclaw.pid").touch()
    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        is_locked(tmp_path / "metaclaw.pid")
    with pytest.raises(ProcessError, match="cannot be locked: No locks available"), held_pid_file(tmp_path):
        pass


def test_whoever_looks_for_a_holder_is_not_taken_for_one(tmp_path: Path):
    """Two `metaclaw stop` at once after a kill -9: the one saw the other's look, believed the file that the killed
    instance had left, and ended whatever program had its process id by then."""
    path = tmp_path / "metaclaw.pid"
    path.touch()
    look = "import sys; from pathlib import Path; from metaclaw.locks import is_locked\n"
    look += "print(sum(is_locked(Path(sys.argv[1])) for _ in range(5000)))"
    lookers = [
        subprocess.Popen([sys.executable, "-c", look, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [looker.communicate()[0] for looker in lookers] == ["0\n"] * 3


def test_children_are_told_of(tmp_path: Path):
    with held_pid_file(tmp_path) as pid_file:
        pid_file.write(me(tmp_path))
        pid_file.note_children({"gateway": 12345678, "learner": None})
        pid_file.note_children({"gateway": 1, "learner": None})  # shorter: nothing of the longer one may stay
        instance = running_instance(tmp_path)
    assert instance is not None
    assert instance.children == {"gateway": 1, "learner": None}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk here that is always full")
def test_a_full_disk_takes_no_note_of_the_children_and_ends_nothing():
    handle = os.open("/dev/full", os.O_RDWR)
    pid_file = PidFile(handle, handle)
    try:
        with pytest.raises(OSError, match="No space left"):
            pid_file.write(me(Path()))
        pid_file.note_children({"gateway": 1})
        pid_file.note_mode("rl")
        pid_file.note_settings_trouble("it is not there any more")  # or nobody would look at the file again
    finally:
        os.close(handle)


def test_a_taken_port_is_refused_with_its_number_and_the_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ProcessError, match=rf"127.0.0.1:{port}.*--port N.*metaclaw config proxy.port N"):
            claim_port("127.0.0.1", port, setting="proxy.port")
    assert claim_port("127.0.0.1", port, setting="proxy.port") == port


def test_port_zero_takes_a_free_one():
    assert claim_port("127.0.0.1", 0, setting="proxy.port") > 0


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(ProcessError, match=r"192\.0\.2\.1"):
        claim_port("192.0.2.1", 0, setting="proxy.port")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:5"),
        ("0.0.0.0", "http://127.0.0.1:5"),
        ("::1", "http://[::1]:5"),
        ("::", "http://[::1]:5"),
        ("localhost", "http://localhost:5"),
    ],
)
def test_the_url_is_one_that_a_client_here_can_reach(host: str, url: str):
    assert url_of(host, 5) == url


def test_nobody_listening_is_not_healthy():
    port = claim_port("127.0.0.1", 0, setting="proxy.port")
    assert not is_healthy(f"http://127.0.0.1:{port}", timeout_s=1)
