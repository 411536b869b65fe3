"""How a command is shut in on this machine: bubblewrap, the kernel's namespaces, or macOS's sandbox-exec.

Owns the command lines of the three and the choice among them; refuses to know what is run. Invariant: what is chosen
has just confined a program here, or nothing is chosen and the error says what to install.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from metaclaw.errors import ProcessError
from metaclaw.processes import namespaces

INSIDE = "/tmp/work"  # what the working directory is called in a sandbox of Linux
# Other programs' sockets and files are there; a socket can be connected to on a read-only file system too.
_EMPTIED = ("/tmp", "/var/tmp", "/run")
_SECRET_PLACES = (
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".config/gcloud", ".config/gh", ".netrc", ".pypirc",
    ".npmrc", ".git-credentials", ".huggingface", ".cache/huggingface/token", ".password-store",
    ".local/share/keyrings",
)  # fmt: skip
_PROBE_S = 20.0


class SandboxError(ProcessError):
    """A command cannot be run safely on this machine; the text says what would change that."""

    code = "sandbox_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a command sees of the files: everything read-only, but for what is emptied and its working directory.

    ``work`` is the one place that it may write to and that outlives it; without one it has a directory in memory of
    ``scratch_mb``. ``hidden`` files and directories look empty; ``shown`` ones stay though they lie in emptied places.
    """

    work: Path | None = None
    hidden: tuple[Path, ...] = ()
    shown: tuple[Path, ...] = ()
    scratch_mb: int = 64


class Confinement(Protocol):
    """One way to shut a command in.

    ``num_own`` processes of its own stand between us and the command; ``needs_work``: it has no directory in memory.
    """

    @property
    def name(self) -> str: ...

    @property
    def num_own(self) -> int: ...

    @property
    def needs_work(self) -> bool: ...

    def wrap(self, command: Sequence[str], view: View) -> list[str]:
        """The command line that runs ``command`` with this ``view`` and without a network."""
        ...

    def inside(self, view: View) -> str:
        """What the working directory is called for the command."""
        ...


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Through our own ``namespaces.py``."""

    name: str = "namespaces"
    num_own: int = 2
    needs_work: bool = False

    def wrap(self, command: Sequence[str], view: View) -> list[str]:
        spec = {
            "work": None if view.work is None else str(view.work),
            "inside": INSIDE,
            "emptied": [*_EMPTIED, *map(str, view.hidden)],
            "shown": [str(path) for path in view.shown if _is_covered(path, view)],
            "scratch_mb": view.scratch_mb,
        }
        return [sys.executable, "-I", "-S", str(namespaces.__file__), json.dumps(spec), *command]

    def inside(self, view: View) -> str:
        return INSIDE


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """Through ``bwrap``."""

    program: str
    name: str = "bubblewrap"
    num_own: int = 2
    needs_work: bool = False

    def wrap(self, command: Sequence[str], view: View) -> list[str]:
        words = [self.program, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--ro-bind", "/", "/"]
        words += ["--dev", "/dev", "--proc", "/proc"]
        for path in [*map(Path, _EMPTIED), *view.hidden]:
            if path.is_dir() and not path.is_symlink():
                words += ["--size", str(view.scratch_mb << 20), "--tmpfs", str(path)]
            elif path.exists():
                words += ["--ro-bind", "/dev/null", str(path)]
        for path in view.shown:
            if _is_covered(path, view):
                words += ["--ro-bind", str(path), str(path)]
        words += ["--bind", str(view.work), INSIDE] if view.work else ["--dir", INSIDE]
        # Who is root out here could write in there to /proc/sys, which is the whole machine's.
        return [*words, "--remount-ro", "/proc", "--chdir", INSIDE, "--", *command]

    def inside(self, view: View) -> str:
        return INSIDE


@dataclass(frozen=True, slots=True)
class SandboxExec:
    """Through macOS's ``sandbox-exec``. There are no namespaces: a process that leaves the group is not found again."""

    program: str = "/usr/bin/sandbox-exec"
    name: str = "sandbox-exec"
    num_own: int = 0
    needs_work: bool = True

    def wrap(self, command: Sequence[str], view: View) -> list[str]:
        return [self.program, "-p", self.profile(view), *command]

    def profile(self, view: View) -> str:
        """The rules, in its own language; the last one that fits decides."""
        lines = ["(version 1)", "(allow default)", "(deny network*)", "(deny file-write*)", "(deny process-info*)"]
        lines += ["(allow process-info* (target self))", '(allow file-write* (literal "/dev/null"))']
        lines += [f"(deny file-read* (subpath {_quoted(path)}))" for path in view.hidden]
        lines += [f"(allow file-read* (subpath {_quoted(path)}))" for path in view.shown]
        if view.work is not None:
            lines.append(f"(allow file-read* file-write* (subpath {_quoted(view.work)}))")
        return "\n".join(lines)

    def inside(self, view: View) -> str:
        return str(view.work)


@dataclass(frozen=True, slots=True)
class Unconfined:
    """No confinement but the limits: somebody has allowed it explicitly."""

    name: str = "none"
    num_own: int = 0
    needs_work: bool = True

    def wrap(self, command: Sequence[str], view: View) -> list[str]:
        return list(command)

    def inside(self, view: View) -> str:
        return str(view.work)


def choose_confinement(how: Literal["auto", "none"] = "auto") -> Confinement:
    """The first way that works here, which is tried out and takes its time; raises ``SandboxError``."""
    if how == "none":
        return Unconfined()
    candidates: list[Confinement] = []
    if sys.platform == "darwin":
        candidates.append(SandboxExec())
    elif sys.platform == "linux":
        if program := shutil.which("bwrap"):
            candidates.append(Bubblewrap(program))
        candidates.append(Namespaces())
    problems = list[str]()
    for candidate in candidates:
        problem = _problem_of(candidate)
        if problem is None:
            return candidate
        problems.append(f"{candidate.name}: {problem}")
    raise SandboxError(
        f"commands cannot be shut in on this machine ({'; '.join(problems) or sys.platform}): "
        "install bubblewrap (`apt install bubblewrap`, `dnf install bubblewrap`), or, in a container, let it make user "
        "namespaces"
    )


def secret_places(home: Path | None = None) -> tuple[Path, ...]:
    """Where keys of the user usually lie: hidden from every command."""
    home = home or Path.home()
    return tuple(home / place for place in _SECRET_PLACES)


def _problem_of(confinement: Confinement) -> str | None:
    try:
        tried = subprocess.run(
            confinement.wrap(["/bin/sh", "-c", "exit 0"], View(work=None)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_S,
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if tried.returncode == 0:
        return None
    said = tried.stderr.decode(errors="replace").strip().removeprefix(namespaces.FAILED_PREFIX)
    return said.rpartition("\n")[2] or f"it ended with status {tried.returncode}"


def _is_covered(path: Path, view: View) -> bool:
    return any(path.is_relative_to(place) for place in (*_EMPTIED, *view.hidden))


def _quoted(path: Path) -> str:
    return json.dumps(os.path.realpath(path), ensure_ascii=False)
