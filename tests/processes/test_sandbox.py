"""Commands are real ones, and each way of shutting them in that this machine has is tried."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from metaclaw.processes import confinement as ways
from metaclaw.processes.confinement import (
    Bubblewrap,
    Confinement,
    Namespaces,
    SandboxError,
    SandboxExec,
    Unconfined,
    View,
    choose_confinement,
)
from metaclaw.processes.sandbox import Limits, Outcome, Sandbox

pytestmark = pytest.mark.anyio


def _ways() -> list[Confinement]:
    found = shutil.which("bwrap")
    candidates: list[Confinement] = [Namespaces(), *([Bubblewrap(found)] if found else [])]
    return [way for way in candidates if ways._problem_of(way) is None]


def _kernel_makes_namespaces() -> bool:
    """Asked without ours, so that a way of ours that breaks is not taken for a kernel that refuses."""
    program, version = shutil.which("unshare"), tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    if sys.platform != "linux" or program is None or version < (5, 12):  # since then mounts are made read-only at once
        return False
    asked = [program, "--user", "--map-current-user", "--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "true"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


WAYS = _ways()
PYTHON = str(Path(sys.executable).resolve())  # a checkout below /tmp is not seen from inside, nor is its .venv
needs_a_way = pytest.mark.skipif(not WAYS, reason="the kernel lets nobody make namespaces here")
each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)


LONG = f"9{os.getpid()}"  # seconds, by which the sleeping of this test run is told from that of another


def sleeping() -> bool:
    return any(one.info["cmdline"] == ["sleep", LONG] for one in psutil.process_iter(["cmdline"]))


async def until_it_sleeps() -> None:
    while not sleeping():  # noqa: ASYNC110 - the command is in a world of its own, and tells nobody
        await asyncio.sleep(0.01)


async def shell(sandbox: Sandbox, script: str, **more: object) -> Outcome:
    return await sandbox.run(["/bin/sh", "-c", script], **more)  # type: ignore[arg-type]


@pytest.mark.skipif(not _kernel_makes_namespaces(), reason="the kernel lets nobody make namespaces here")
def test_where_the_kernel_lets_us_commands_are_shut_in_without_another_program():
    assert ways._problem_of(Namespaces()) is None


@needs_a_way
@each_way
async def test_a_command_gets_its_input_and_nothing_of_our_environment(way: Confinement, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret")

    outcome = await shell(Sandbox(confinement=way), "cat; env; exit 3", stdin=b"said\n", environment={"GIVEN": "1"})

    assert (outcome.ending, outcome.status) == ("exit", 3)
    assert outcome.stdout.startswith(b"said\n")
    assert b"GIVEN=1" in outcome.stdout
    assert b"a-secret" not in outcome.stdout


@needs_a_way
@each_way
async def test_a_command_reaches_no_network_no_socket_and_no_other_process(way: Confinement, tmp_path: Path):
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    local = await asyncio.start_unix_server(lambda reader, writer: writer.close(), tmp_path / "socket")
    port = server.sockets[0].getsockname()[1]
    script = f"""
import os, socket
for family, address in ((socket.AF_INET, ("127.0.0.1", {port})), (socket.AF_UNIX, {str(tmp_path / "socket")!r})):
    try:
        socket.socket(family).connect(address)
        print("connected to", address)
    except OSError:
        print("refused")
with socket.socket() as own:  # a program may talk to itself
    own.bind(("127.0.0.1", 0)); own.listen(); socket.create_connection(own.getsockname()); print("itself")
print({os.getpid()} in [int(name) for name in os.listdir("/proc") if name.isdigit()])
"""
    async with server, local:
        outcome = await Sandbox(confinement=way).run([PYTHON, "-c", script])

    assert outcome.stdout.decode().split("\n")[:4] == ["refused", "refused", "itself", "False"], outcome


@needs_a_way
@each_way
async def test_files_are_read_only_and_secrets_hidden(way: Confinement, tmp_path: Path, monkeypatch):
    home = Path(__file__).parent  # not in /tmp, which is empty in there anyhow
    (secret := tmp_path / "keys").write_text("a-secret")
    (script := tmp_path / "check.sh").write_text("echo it runs")
    sandbox = Sandbox(confinement=way, hidden=(home,), shown=(script,))

    outcome = await shell(
        sandbox,
        f"sh {script}; touch here && echo written; ls {home}; cat {secret}; echo x > {script}; touch /usr/x;"
        "mount -o remount,rw / && echo remounted; umount /run && echo unmounted; unshare -r true;"
        "test -w /proc/sys/kernel/hostname && echo writable; echo end",
    )

    assert outcome.stdout.decode().split() == ["it", "runs", "written", "end"]
    assert script.read_text() == "echo it runs"


@needs_a_way
@each_way
async def test_a_command_has_no_rights_of_its_own_and_gains_none(way: Confinement):
    """PITFALLS S5. Who is root out here would else be root over the sandbox, and undo it."""
    script = """
import ctypes, os
libc = ctypes.CDLL(None)
READ_CAPABILITY, GET_NO_NEW_PRIVILEGES = 23, 39
print([number for number in range(64) if libc.prctl(READ_CAPABILITY, number, 0, 0, 0) == 1])
print(libc.prctl(GET_NO_NEW_PRIVILEGES, 0, 0, 0, 0))
try:
    os.chroot("/")
except PermissionError:
    print("refused")
"""
    outcome = await Sandbox(confinement=way).run([PYTHON, "-S", "-c", script])

    assert outcome.stdout.decode().split("\n")[:3] == ["[]", "1", "refused"], outcome


@needs_a_way
@each_way
async def test_what_is_written_into_a_given_directory_stays(way: Confinement, tmp_path: Path):
    (tmp_path / "before").write_text("there")

    outcome = await shell(Sandbox(confinement=way), "cat before; echo kept > after", work=tmp_path)

    assert outcome.stdout == b"there"
    assert (tmp_path / "after").read_text() == "kept\n"


@needs_a_way
@each_way
async def test_a_command_dies_at_its_limits_with_all_that_it_started(way: Confinement):
    """PITFALLS S5: nothing ended a child when its time was over."""
    sandbox = Sandbox(confinement=way, limits=Limits(time_s=0.5, output_bytes=1000))
    timed = await shell(sandbox, f"setsid sleep {LONG} & sleep {LONG}")
    flooding = await shell(Sandbox(confinement=way, limits=Limits(output_bytes=1000)), "yes")

    assert (timed.ending, timed.status) == ("time", None)
    assert flooding.ending == "output"
    assert len(flooding.stdout) == 1000
    assert not sleeping()


@needs_a_way
@each_way
async def test_memory_is_counted_over_all_processes_of_a_command(way: Confinement):
    sandbox = Sandbox(confinement=way, limits=Limits(memory_mb=100))
    hungry = f"{PYTHON} -S -c 'import time; kept = bytearray(60_000_000); time.sleep(60)'"

    alone = await sandbox.run([PYTHON, "-S", "-c", "bytearray(10**9)"])
    together = await shell(sandbox, f"{hungry} & {hungry} & wait")

    assert b"MemoryError" in alone.stderr
    assert together.ending == "memory"


@needs_a_way
async def test_a_fork_bomb_ends():
    sandbox = Sandbox(confinement=WAYS[0], limits=Limits(processes=20, memory_mb=4096))

    outcome = await shell(sandbox, "bomb() { sleep 60 & bomb; }; bomb")

    assert outcome.ending == "processes" or b"fork" in outcome.stderr.lower()


async def test_a_cancelled_command_is_gone():
    way = WAYS[0] if WAYS else Unconfined()
    running = asyncio.create_task(shell(Sandbox(confinement=way), f"sleep {LONG}"))
    await until_it_sleeps()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert not sleeping()


async def test_without_confinement_the_limits_and_the_bare_environment_stay(monkeypatch):
    """PITFALLS S5: at its time limit the shell ended, and what it had started went on."""
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret")
    sandbox = Sandbox(confinement=choose_confinement("none"), limits=Limits(time_s=0.5))

    outcome = await shell(sandbox, f"env; pwd; touch here && sleep {LONG} & sleep {LONG}")

    assert outcome.ending == "time"
    assert not sleeping()
    assert b"a-secret" not in outcome.stdout
    assert not os.path.lexists(outcome.stdout.split()[-1])  # noqa: ASYNC240


async def test_where_nothing_confines_a_command_it_is_not_run(monkeypatch, tmp_path: Path):
    (bwrap := tmp_path / "bwrap").write_text(
        "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1"
    )
    bwrap.chmod(0o755)
    (launcher := tmp_path / "launcher.py").write_text(
        "import os; os.write(2, b'metaclaw-sandbox: new namespaces: Operation not permitted\\n'); os._exit(125)"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ways.namespaces, "__file__", str(launcher))

    with pytest.raises(SandboxError, match=r"bubblewrap: .*uid map.*namespaces: new name.*apt install bubblewrap"):
        choose_confinement()
    with pytest.raises(SandboxError, match="was not run: new namespaces"):
        await Sandbox(confinement=Namespaces()).run(["/bin/sh", "-c", f"touch {tmp_path}/ran"])
    assert not (tmp_path / "ran").exists()


def test_the_profile_for_macos_denies_the_network_and_all_writing_but_to_the_work():
    profile = SandboxExec().profile(View(work=Path("/private/tmp/work"), hidden=(Path("/Users/me/.ssh"),)))

    lines = profile.split("\n")
    allowed = '(allow file-read* file-write* (subpath "/private/tmp/work"))'
    assert "(deny network*)" in lines
    assert lines.index("(deny file-write*)") < lines.index(allowed)
    assert '(deny file-read* (subpath "/Users/me/.ssh"))' in lines
