"""One running MetaClaw a home: who it is, whether it lives, how it is ended.

Owns ``metaclaw.pid``, the locks, the check of the port, and health; refuses to know how children are kept running
(``supervisor``). Invariant: two instances never write one journal, even after one was killed. The supervisor alone
holds the PID file's lock; the children inherit a second one, which is free only when all of them are gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from metaclaw.errors import ProcessError
from metaclaw.locks import LockedError, exclusive_lock, is_locked

_PROBE_S = 0.5
DRAIN_S = 20.0  # children of a killed instance finish their answers for so long
_POLL_S = 0.1
_MAX_HEALTH_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What an instance says of itself in its PID file; ``mode`` and ``url`` are empty while it waits to begin.

    ``settings_trouble`` is why it goes on with the settings of before, while the file says something else.
    """

    pid: int
    mode: str
    url: str
    started_at: float
    children: Mapping[str, int | None] = field(default_factory=dict[str, "int | None"])
    settings_trouble: str = ""


class PidFile:
    """The PID file while we hold it. ``shared_fd`` is for the children to inherit.

    What it says is for `status` alone: a disk that has no room for a note of it ends nothing.
    """

    def __init__(self, handle: int, shared_fd: int) -> None:
        self.shared_fd = shared_fd
        self._handle = handle
        self._instance: Instance | None = None

    def write(self, instance: Instance) -> None:
        self._instance = instance
        _write(self._handle, instance)

    def note_mode(self, mode: str) -> None:
        assert self._instance is not None, "write() comes first"
        self._note(replace(self._instance, mode=mode))

    def note_settings_trouble(self, trouble: str) -> None:
        assert self._instance is not None, "write() comes first"
        if trouble != self._instance.settings_trouble:
            self._note(replace(self._instance, settings_trouble=trouble))

    def note_children(self, children: Mapping[str, int | None]) -> None:
        assert self._instance is not None, "write() comes first"
        self._note(replace(self._instance, children=children))

    def _note(self, instance: Instance) -> None:
        with contextlib.suppress(OSError):
            self.write(instance)


@contextlib.contextmanager
def held_pid_file(home: Path) -> Generator[PidFile]:
    """Be the instance of ``home``. Raises ``ProcessError`` that names the other one when there is one."""
    with contextlib.ExitStack() as stack:
        try:
            # A moment of patience: `status` holds the lock while it looks whether somebody does.
            handle = _lock_within(stack, _pid_path(home), _PROBE_S)
        except LockedError:
            raise ProcessError(f"MetaClaw already runs on {home} ({_who(home)}); `metaclaw stop` ends it") from None
        # A killed instance left its facts, and its gateway may still answer for a moment. Ours so far is who to stop.
        _write(handle, Instance(pid=os.getpid(), mode="", url="", started_at=time.time()))
        try:
            shared = _lock_within(stack, _processes_path(home), DRAIN_S)
        except LockedError:
            raise ProcessError(
                f"a gateway or learner of an earlier MetaClaw on {home} does not end; end it first"
            ) from None
        yield PidFile(handle, shared)
        os.ftruncate(handle, 0)


def running_instance(home: Path) -> Instance | None:
    """The instance of ``home`` that is alive."""
    return _read(home) if is_locked(_pid_path(home)) else None


def ready_path(home: Path) -> Path:
    """The lock that a learner holds once its settings were seen to work: see ``may_yet_refuse``."""
    return home / "learner.ready"


def may_yet_refuse(home: Path, instance: Instance) -> bool:
    """Whether the learner of ``instance`` has still to say that its settings can work; it says no by ending it all.

    One that just died may have said so: what it began to end still answers for a moment.
    """
    return "learner" in instance.children and not is_locked(ready_path(home))


def stop_instance(home: Path, *, timeout_s: float = 30.0) -> Instance | None:
    """End the instance of ``home`` and wait until every process of it is gone; ``None`` when none ran."""
    instance = running_instance(home)
    if instance is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(instance.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while is_locked(_pid_path(home)) or is_locked(_processes_path(home)):
        if time.monotonic() > deadline:
            raise ProcessError(f"MetaClaw ({_who(home)}) has not ended within {timeout_s:.0f} s; see its log")
        time.sleep(_POLL_S)
    return instance


def is_healthy(url: str, *, timeout_s: float = 2.0) -> bool:
    """Whether ``GET <url>/healthz`` answers 200."""
    return read_health(url, timeout_s=timeout_s) is not None


def read_health(url: str, *, timeout_s: float = 2.0) -> dict[str, Any] | None:
    """What ``GET <url>/healthz`` says of the gateway; ``None`` when it does not answer 200 with that."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach our loopback
    try:
        with opener.open(f"{url}/healthz", timeout=timeout_s) as answer:
            said: object = json.loads(answer.read(_MAX_HEALTH_BYTES)) if answer.status == 200 else None
    except (urllib.error.URLError, OSError, ValueError):
        return None
    return cast("dict[str, Any]", said) if isinstance(said, dict) else None


def read_upstreams(url: str, token: str, *, timeout_s: float = 2.0) -> list[dict[str, Any]]:
    """What the gateway says to its owner's ``token`` of the models behind it; nothing where it does not answer that."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"{url}/v1/admin/upstreams", headers={"Authorization": f"Bearer {token}"})
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            said: object = json.loads(answer.read(_MAX_HEALTH_BYTES))
    except (urllib.error.URLError, OSError, ValueError):
        return []
    listed: object = cast("dict[str, Any]", said).get("upstreams") if isinstance(said, dict) else None
    return cast("list[dict[str, Any]]", listed) if isinstance(listed, list) else []


def claim_port(host: str, port: int, *, setting: str) -> int:
    """``port``, or a free one for 0. Raises ``ProcessError`` when it is taken or the address is not this machine's."""
    try:
        return _bound_port(host, port)
    except OSError as error:
        raise ProcessError(
            f"cannot listen on {host}:{port} ({error.strerror}). Stop the program that uses it, or choose another "
            f"port: --port N, or `metaclaw config {setting} N`"
        ) from error


def url_of(host: str, port: int) -> str:
    """How a client on this machine reaches a server that listens there."""
    reachable = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{reachable}:{port}"


def _bound_port(host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        if os.name == "posix":  # connections of a server that ended must not count; on Windows the flag means stealing
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return probe.getsockname()[1]


def _pid_path(home: Path) -> Path:
    return home / "metaclaw.pid"


def _processes_path(home: Path) -> Path:
    return home / "processes.lock"


def _lock_within(stack: contextlib.ExitStack, path: Path, wait_s: float) -> int:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return stack.enter_context(exclusive_lock(path, wait=False))
        except LockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        except OSError as error:
            raise ProcessError(f"{path} cannot be locked: {error.strerror}; is its file system a local one?") from error


def _who(home: Path) -> str:
    instance = _read(home)
    return f"pid {instance.pid}, {instance.url or 'starting'}" if instance else "starting"


def _write(handle: int, instance: Instance) -> None:
    data = json.dumps(asdict(instance)).encode() + b"\n"
    os.pwrite(handle, data, 0)
    os.ftruncate(handle, len(data))


def _read(home: Path) -> Instance | None:
    try:
        return Instance(**json.loads(_pid_path(home).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # being written, or by another release
