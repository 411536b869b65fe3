"""A program that starts vLLM and sees to it that nothing of vLLM outlives us.

Run as a file, with nothing but the standard library: ``python -I keeper.py COMMAND...``. Owns the process group;
refuses to know what runs in it. Invariant: the group ends when the command does, when our standard input ends, and
when this program does: the command by the kernel's word, its children by whoever started us.

vLLM alone does not: killed by signal 9, its API server leaves the engine and the workers running, with their memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> int:
    """Run ``command`` in our own process group, and end the whole group afterwards."""
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: the child may only make calls

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # our standard input decides
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=2, preexec_fn=die_with_parent, restore_signals=True
    )
    threading.Thread(target=_end_with_input, daemon=True).start()
    code = child.wait()
    with contextlib.suppress(OSError):
        os.write(1, f"{code}\n".encode())
    os.killpg(0, signal.SIGKILL)
    return code


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
