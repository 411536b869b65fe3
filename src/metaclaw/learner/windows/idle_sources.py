"""For how long nobody touched this machine, as its system tells it.

Owns one source for each system; refuses to know which is asked when. Invariant: a source that cannot tell says so with
``None``; it never guesses, and nothing of what the user does but the time of it is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

_TIMEOUT_S = 5.0
_GRAPHICAL = ("x11", "wayland", "mir")
_MUTTER = (
    "busctl", "--user", "call", "org.gnome.Mutter.IdleMonitor", "/org/gnome/Mutter/IdleMonitor/Core",
    "org.gnome.Mutter.IdleMonitor", "GetIdletime",
)  # fmt: skip
_SESSION_FIELDS = "--property=User,Type,Class,State,IdleHint,IdleSinceHint"

Run = Callable[..., Awaitable[str | None]]


class IdleSource(Protocol):
    """Says for how many seconds nothing was touched, or ``None``."""

    @property
    def name(self) -> str: ...

    async def idle_s(self, now: float) -> float | None: ...


async def output_of(*command: str) -> str | None:
    """What ``command`` prints; ``None`` when it is not there, fails, or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            printed, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return printed.decode(errors="replace") if process.returncode == 0 else None


class MacIdle:
    """macOS: what the keyboard's and pointer's driver says."""

    name = "keyboard and pointer"

    def __init__(self, run: Run = output_of) -> None:
        self._run = run

    async def idle_s(self, now: float) -> float | None:
        found = re.search(r'"HIDIdleTime"\s*=\s*(\d+)', await self._run("ioreg", "-c", "IOHIDSystem", "-d", "4") or "")
        return None if found is None else int(found[1]) / 1e9


class WindowsIdle:
    """Windows: the time of the session's last input."""

    name = "keyboard and pointer"

    async def idle_s(self, now: float) -> float | None:
        windll: Any = getattr(ctypes, "windll", None)
        return None if windll is None else last_input_s(windll)


def last_input_s(windll: Any) -> float | None:
    """Seconds since the last input. Windows counts milliseconds in 32 bits, which begin anew after 49 days."""
    info = (ctypes.c_uint32 * 2)(8, 0)  # LASTINPUTINFO: its own size, and when
    if not windll.user32.GetLastInputInfo(ctypes.byref(info)):
        return None
    return ((windll.kernel32.GetTickCount() - info[1]) & 0xFFFFFFFF) / 1000


class X11Idle:
    """Linux with X11: `xprintidle`, where it is installed."""

    name = "xprintidle"

    def __init__(self, run: Run = output_of, environment: Mapping[str, str] = os.environ) -> None:
        self._run = run
        self._environment = environment

    async def idle_s(self, now: float) -> float | None:
        # Under Wayland there may be a DISPLAY too, of which the server sees nothing of what other programs are typed.
        if not self._environment.get("DISPLAY") or self._environment.get("WAYLAND_DISPLAY"):
            return None
        printed = (await self._run("xprintidle") or "").strip()
        return int(printed) / 1000 if printed.isdecimal() else None


class MutterIdle:
    """Linux with GNOME, X11 or Wayland: to the millisecond, where the session's hint comes minutes late."""

    name = "GNOME"

    def __init__(self, run: Run = output_of) -> None:
        self._run = run

    async def idle_s(self, now: float) -> float | None:
        found = re.fullmatch(r"t (\d+)", (await self._run(*_MUTTER) or "").strip())
        return None if found is None else int(found[1]) / 1000


class LogindIdle:
    """Linux with any desktop: the idle hint of this user's graphical sessions; of several, the one used last."""

    name = "the session's idle hint"

    def __init__(self, run: Run = output_of, uid: int | None = None) -> None:
        self._run = run
        self._uid = uid if uid is not None else getattr(os, "getuid", lambda: 0)()

    async def idle_s(self, now: float) -> float | None:
        listed = await self._run("loginctl", "list-sessions", "--no-legend")
        names = [line.split()[0] for line in (listed or "").splitlines() if line.split()]
        if not names:
            return None
        shown = await self._run("loginctl", "show-session", _SESSION_FIELDS, *names) or ""
        found = [self._session(block, now) for block in shown.split("\n\n")]
        return min((idle for idle in found if idle is not None), default=None)

    def _session(self, block: str, now: float) -> float | None:
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        is_mine = fields.get("User") == str(self._uid) and fields.get("Class") == "user"
        if not is_mine or fields.get("Type") not in _GRAPHICAL or fields.get("State") == "closing":
            return None
        since = fields.get("IdleSinceHint", "")
        if fields.get("IdleHint") != "yes" or not since.isdecimal():
            return 0.0
        return max(0.0, now - int(since) / 1e6)


def system_sources(platform: str = sys.platform) -> tuple[IdleSource, ...]:
    """The sources of this system, the most exact first."""
    if platform == "darwin":
        return (MacIdle(),)
    if platform == "win32":
        return (WindowsIdle(),)
    return (X11Idle(), MutterIdle(), LogindIdle())
