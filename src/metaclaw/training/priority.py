"""How a process lets others go first.

Owns the two numbers that Linux has for it; refuses to know who should go first. Invariant: no process but the caller's
own is changed, or those of the session that it leads.

Where the kernel groups processes by session (``sched_autogroup_enabled``, usual on desktops), niceness counts inside a
session only and sessions share the machine evenly. Each worker leads one, so niceness alone gave the engine as much of
the processor as the sampler; the session has a niceness of its own.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

_GROUP = Path("/proc/self/autogroup")
_NUM_TRIES, _PAUSE_S = 20, 0.1  # the kernel takes one change each tenth of a second, whosever it is


def step_back(niceness: int) -> None:
    """Make this process nicer by ``niceness``. Before threads start: they inherit it."""
    if hasattr(os, "nice"):
        os.nice(niceness)


def session_steps_back(niceness: int) -> None:
    """Give the session that this process leads ``niceness``, where the kernel groups by session; all threads count."""
    if not _GROUP.exists() or os.getsid(0) != os.getpid():
        return
    for _ in range(_NUM_TRIES):
        try:
            _GROUP.write_text(str(niceness), encoding="ascii")
        except OSError as error:
            if error.errno != errno.EAGAIN:
                return  # a container that may not
        else:
            return
        time.sleep(_PAUSE_S)
