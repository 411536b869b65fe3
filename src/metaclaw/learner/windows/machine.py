"""What training is doing: idle, window_open, updating or pausing.

Owns which state follows from what is seen; refuses to know clocks, conditions and tasks. Invariants: an update that
needs a window is ``pausing`` as soon as there is none, and stays so until it has ended; when nothing runs, the state is
whether a window is open, whatever it was before, so that no state is without an exit and a restart needs no repair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["idle", "window_open", "updating", "pausing"]
Running = Literal["nothing", "in_window", "asked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """``running`` is ``asked`` for an update that somebody asked for: it needs no window."""

    is_open: bool
    running: Running


def following(state: State, seen: Seen) -> State:
    """The state after ``state``, now that ``seen`` is the case."""
    if seen.running == "nothing":
        return "window_open" if seen.is_open else "idle"
    if seen.running == "asked":
        return "updating"
    # An update that is being stopped is not to be had back by a window that opens meanwhile.
    return "updating" if seen.is_open and state != "pausing" else "pausing"
