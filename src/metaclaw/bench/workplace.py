"""The folder in which a day's work is done.

Owns what lies there, its changes between rounds, and looking at it; refuses to know who works there. Invariants: what
grades never lies where the agent works: a check runs on a copy, with the scripts laid in, and the copy goes with it;
nothing that the agent made takes the place of a script or is loaded by Python beside one; and whatever the agent made
is written through in the sandbox alone, since a link of its making could point to anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from metaclaw.bench.days import Dataset, Day, FileEval, Update
from metaclaw.errors import ConfigError
from metaclaw.processes.sandbox import Outcome, Sandbox
from metaclaw.rollout.folders import passing_folder
from metaclaw.rollout.verifying import lay

_PREFIX = "metaclaw-day-"
_DAY = re.compile(r"day\d+")
_SESSIONS = "sessions"  # where what was said elsewhere lies, for whoever looks for it
_READ = 'test ! -e "$1" || exec cat -- "$1"'
# A file or a link of the agent's where a folder must be ends no day: what lies at the top of the path goes.
_MAKE_WAY = (
    'case "$1" in ./*/*) mkdir -p -- "${1%/*}" 2>/dev/null && exit; top="${1#./}"; chmod -R u+rwX .;'
    ' rm -rf -- "./${top%%/*}";; esac'
)
_SCRIPTS = "scripts"
_PYTHON_BEGINS = "sitecustomize.py"
_MAX_COPIED = 2 << 30  # bytes of what the agent made
_MAX_FILES = 50_000
# What an agent can make that nobody can copy: a folder without rights, one nested too deeply.
_OUT_OF_REACH = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """The folder of one day."""

    folder: Path
    sandbox: Sandbox
    scripts: Path | None

    async def update(self, changes: tuple[Update, ...], sources: Path) -> None:
        """What the dataset changes before a round. Raises ``ConfigError`` where that cannot be done."""
        for change in changes:
            name = change.path if change.type == "workspace" else f"{_SESSIONS}/{change.path}"
            source = "" if change.source is None else await asyncio.to_thread(_text, sources / change.source)
            content = source if change.action == "new" else _changed(change, await self._content(name), source)
            await self.sandbox.run(["/bin/sh", "-c", _MAKE_WAY, "sh", f"./{name}"], work=self.folder)
            if (problem := await lay({name: content}, self.sandbox, self.folder)) is not None:
                raise ConfigError(f"the update of {name}: {problem}")

    async def check(self, asked: FileEval) -> Outcome:
        """Run a check on a copy of the folder. Raises ``SandboxError``."""
        async with passing_folder(_PREFIX) as copy:
            if not await asyncio.to_thread(_copied, self.folder, copy):
                return _too_large()
            if self.scripts is not None:
                await asyncio.to_thread(_lay_scripts, self.scripts, copy / _SCRIPTS)
            limits = replace(self.sandbox.limits, time_s=asked.timeout)
            pythons = (Path(sys.prefix), Path(sys.base_prefix))
            sandbox = replace(self.sandbox, limits=limits, shown=(*self.sandbox.shown, *pythons))
            return await sandbox.run(
                ["/bin/sh", "-c", asked.command],
                work=copy,
                environment=_of_a_check(has_scripts=self.scripts is not None),
            )

    async def _content(self, name: str) -> str:
        outcome = await self.sandbox.run(["/bin/sh", "-c", _READ, "sh", f"./{name}"], work=self.folder)
        return outcome.stdout.decode("utf-8", "replace")


@asynccontextmanager
async def workplace(dataset: Dataset, day: Day, sandbox: Sandbox) -> AsyncGenerator[Workplace]:
    """A new folder with what lies there in the morning: all of the workspace, but of other days nothing."""
    async with passing_folder(_PREFIX) as folder:
        await asyncio.to_thread(_lay_out, dataset.workspace, folder, without=_other_days(dataset, day))
        yield Workplace(folder=folder, sandbox=sandbox, scripts=dataset.scripts)


def _other_days(dataset: Dataset, day: Day) -> frozenset[str]:
    names = {one.name for one in dataset.workspace.iterdir() if one.is_dir()}
    days = {name for name in names if _DAY.fullmatch(name)} | {one.id for one in dataset.days} & names
    return frozenset(days - {day.id})


def _changed(change: Update, before: str, source: str) -> str:
    lines = before.splitlines(keepends=True)
    if change.action == "append":
        return before + source
    if change.action == "insert":
        at = min(change.param.after, len(lines))
        return "".join([*lines[:at], source, *lines[at:]])
    gone = {number for given in change.param.lines for number in _numbers(given, len(lines))}
    return "".join(line for number, line in enumerate(lines) if number not in gone)


def _numbers(given: int | str, num_lines: int) -> range:
    """Which lines, from 0: a number counts from 1, and "3:7" is Python's slice."""
    if isinstance(given, int):
        return range(given - 1, given)
    first, _, last = given.partition(":")
    return range(int(first or 0), min(int(last or num_lines), num_lines))


def _copied(folder: Path, copy: Path) -> bool:
    """Copy what the agent made, as far as it can be reached; whether that was not too much."""
    size = number = 0
    for here, folders, files in os.walk(folder):
        number += len(files) + len(folders)
        for name in files:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(here, name)).st_size  # noqa: PTH118 - as os.walk has it
        if size > _MAX_COPIED or number > _MAX_FILES:
            return False
    _lay_out(folder, copy, is_agents=True)
    return True


def _too_large() -> Outcome:
    why = f"the folder holds more than {_MAX_COPIED >> 30} GiB or {_MAX_FILES} files"
    return Outcome(ending="exit", status=126, stdout=b"", stderr=why.encode(), took_s=0.0)


def _lay_out(source: Path, target: Path, *, without: frozenset[str] = frozenset(), is_agents: bool = False) -> None:
    """Copy a tree: files, folders, and links as links; nothing else of what an agent can make.

    What is in the way is removed, a link above all: nothing is ever written through one.
    """
    trees = [(source, target)]
    while trees:
        here, there = trees.pop()
        try:
            if there.is_symlink() or not there.is_dir():
                there.unlink(missing_ok=True)
                there.mkdir(parents=True)
            for one in here.iterdir():
                mode = one.lstat().st_mode
                if here == source and one.name in without:
                    continue
                if stat.S_ISDIR(mode):
                    trees.append((one, there / one.name))
                elif stat.S_ISLNK(mode) or stat.S_ISREG(mode):
                    _remove(there / one.name)
                    with contextlib.suppress(PermissionError):  # what cannot be read cannot be checked either
                        shutil.copy2(one, there / one.name, follow_symlinks=False)
        except OSError as error:
            if not is_agents or error.errno not in _OUT_OF_REACH:
                raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _lay_scripts(scripts: Path, target: Path) -> None:
    _remove(target)
    _lay_out(scripts, target)
    with contextlib.suppress(FileExistsError), (target / _PYTHON_BEGINS).open("x", encoding="utf-8") as file:
        file.write("import os, sys\n\nsys.path.append(os.getcwd())\n")


def _of_a_check(*, has_scripts: bool) -> dict[str, str]:
    """Checks call ``python``, which many machines have as ``python3`` alone: ours is there.

    It looks for modules beside the scripts and where the agent worked last of all (checks may try what was written
    there), and that is no home with settings: else a ``json.py`` or a ``usercustomize.py`` of the agent's would speak
    for the check.
    """
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        "PYTHONNOUSERSITE": "1",
        "HOME": "/nonexistent",
        **({"PYTHONPATH": _SCRIPTS, "PYTHONSAFEPATH": "1"} if has_scripts else {}),
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
