"""For how long the user is idle: what each system prints, and which source is believed."""

from __future__ import annotations

import asyncio
import ctypes
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from metaclaw.learner.windows.idle import REQUESTS, Idleness, UserIdle
from metaclaw.learner.windows.idle_sources import LogindIdle, MacIdle, MutterIdle, X11Idle, last_input_s, output_of

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
SESSIONS = "  3 1000 ann seat0 tty2\n  5 1001 bob seat0\nc1  120 gdm seat0\n"
IOREG = '    | |   "HIDIdleTime" = 90500000000\n    | |   "HIDScrollAccelerationType" = "x"\n'


def printing(**answers: str | None):
    """Programs by name, and what they print."""

    async def run(*command: str) -> str | None:
        key = command[1].replace("-", "_") if command[0] == "loginctl" else command[0]
        return answers.get(key)

    return run


def session(**fields: str) -> str:
    told = {
        "User": "1000",
        "Type": "wayland",
        "Class": "user",
        "State": "active",
        "IdleHint": "no",
        "IdleSinceHint": "0",
    }
    return "\n".join(f"{key}={value}" for key, value in {**told, **fields}.items())


async def test_each_system_is_read_as_it_prints():
    assert await MacIdle(printing(ioreg=IOREG)).idle_s(NOW) == 90.5
    assert await X11Idle(printing(xprintidle="1500\n"), {"DISPLAY": ":0"}).idle_s(NOW) == 1.5
    assert await MutterIdle(printing(busctl="t 61000\n")).idle_s(NOW) == 61.0


async def test_a_program_that_is_not_there_or_says_something_else_is_unknown():
    for source in (MacIdle, MutterIdle, LogindIdle):
        for run in (printing(), printing(ioreg="?", busctl="?", list_sessions="?", show_session="?")):
            assert await source(run).idle_s(NOW) is None
    assert (
        await X11Idle(printing(xprintidle="1500"), {"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}).idle_s(NOW)
        is None
    )
    assert await output_of("no-such-program") is None
    assert await output_of("false") is None
    assert await output_of("echo", "it") == "it\n"


async def test_the_sessions_idle_hint_of_this_user_alone_counts():
    since = str(int((NOW - 600) * 1e6))
    idle, other = session(IdleHint="yes", IdleSinceHint=since), session(User="1001")
    greeter, remote = session(Class="greeter"), session(Type="tty")
    for blocks, expected in (
        ([idle, other, greeter, remote], 600.0), ([idle, session()], 0.0), ([session()], 0.0), ([other, remote], None),
        ([session(State="closing")], None),
    ):  # fmt: skip
        run = printing(list_sessions=SESSIONS, show_session="\n\n".join(blocks))
        assert await LogindIdle(run, uid=1000).idle_s(NOW) == expected


async def test_windows_counts_over_the_end_of_its_32_bits():
    def last_input(info) -> int:
        info._obj[1] = 0xFFFFFF00
        return 1

    kernel = SimpleNamespace(GetTickCount=lambda: 0x100)
    assert last_input_s(SimpleNamespace(user32=SimpleNamespace(GetLastInputInfo=last_input), kernel32=kernel)) == 0.512
    assert last_input_s(SimpleNamespace(user32=SimpleNamespace(GetLastInputInfo=lambda _: 0), kernel32=kernel)) is None
    assert ctypes.sizeof(ctypes.c_uint32 * 2) == 8


@dataclass
class Scripted:
    """Answers what it is told to; ``None`` until then. ``hangs`` keeps its answer back."""

    name: str
    answer: float | None = None
    hangs: asyncio.Event | None = None
    asked: list[float] = field(default_factory=list)

    async def idle_s(self, now: float) -> float | None:
        self.asked.append(now)
        if self.hangs is not None:
            await self.hangs.wait()
        return self.answer


async def test_the_first_source_that_can_tell_is_believed_and_nobody_else_asked():
    now, first, second, third = [0.0], Scripted("first"), Scripted("second", 7.0), Scripted("third", 9.0)
    idle = UserIdle([first, second, third], clock=lambda: now[0])
    assert await idle.look(100.0) == Idleness(seconds=7.0, source="second")
    now[0], second.answer = 5.0, 12.0
    assert await idle.look(100.0) == Idleness(seconds=12.0, source="second")
    assert (len(first.asked), len(third.asked)) == (1, 0)


async def test_where_nothing_tells_the_requests_count_and_the_system_is_asked_rarely():
    now, only = [0.0], Scripted("only")
    idle = UserIdle([only], clock=lambda: now[0])
    for second in range(0, 120, 5):
        now[0] = float(second)
        assert await idle.look(100.0) == Idleness(seconds=100.0, source=REQUESTS)
    assert only.asked == [0.0, 60.0]
    now[0], only.answer = 121.0, 3.0
    assert (await idle.look(100.0)).seconds == 3.0
    assert await UserIdle([]).look(5.0) == Idleness(seconds=5.0, source=REQUESTS)


async def test_a_source_that_hangs_keeps_nobody_waiting_and_is_unknown_after_a_while(monkeypatch):
    monkeypatch.setattr("metaclaw.learner.windows.idle.PATIENCE_S", 0.01)
    now, source = [0.0], Scripted("slow", 3.0)
    idle = UserIdle([source], clock=lambda: now[0])
    await idle.look(0.0)
    source.hangs, now[0] = asyncio.Event(), 10.0
    assert await idle.look(0.0) == Idleness(seconds=3.0, source="slow")
    now[0] = 40.0
    assert await idle.look(0.0) == Idleness(seconds=None, source="slow")
    assert source.asked == [0.0, 10.0], "it is not asked again before it has answered"
    await idle.close()
