"""A subscription's command-line program, which says what a test tells it to and keeps what it was told."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCRIPT = """\
#!{python} -ES
import json, os, subprocess, sys, time
from pathlib import Path
here = Path(__file__).parent
plan = json.loads((here / "plan.json").read_text())
with (here / "runs.jsonl").open("a") as runs:
    files = {{str(path): path.read_text() for path in Path("..").iterdir() if path.is_file()}}
    said = sys.stdin.read() if plan["reads"] else ""
    mode = oct(Path("..").stat().st_mode & 0o777)
    runs.write(json.dumps([sys.argv[1:], dict(os.environ), said, files, os.listdir("."), mode]) + "\\n")
if plan["fifo"]:
    code = f"import time; f = open({{plan['fifo']!r}}, 'w'); f.write('x'); f.flush(); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code])
for line in plan["lines"]:
    print(line if isinstance(line, str) else json.dumps(line), flush=True)
print(plan["complaint"], file=sys.stderr)
if plan["holds"]:
    time.sleep(600)
sys.exit(plan["code"])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How the program was run once."""

    arguments: list[str]
    env: dict[str, str]
    prompt: str
    files: dict[str, str]
    work: list[str]
    mode: str


@dataclass(slots=True)
class CliProgram:
    """The program; ``path`` is what to start."""

    path: Path

    def plan(
        self,
        *lines: Any,
        holds: bool = False,
        code: int = 0,
        complaint: str = "",
        fifo: Path | None = None,
        reads: bool = True,
    ) -> None:
        """Write these lines, then end; or ``holds``, so that only a kill ends it and its child, which has ``fifo``."""
        plan = {"lines": lines, "holds": holds, "code": code, "complaint": complaint, "reads": reads}
        (self.path.parent / "plan.json").write_text(json.dumps({**plan, "fifo": str(fifo or "")}))

    def runs(self) -> list[Run]:
        path = self.path.parent / "runs.jsonl"
        names = ("arguments", "env", "prompt", "files", "work", "mode")
        lines = path.read_text().splitlines() if path.exists() else []
        return [Run(**dict(zip(names, json.loads(line), strict=True))) for line in lines]


def cli_program(folder: Path) -> CliProgram:
    """A program in ``folder`` that says nothing yet."""
    folder.mkdir()
    program = CliProgram(folder / "program")
    program.path.write_text(_SCRIPT.format(python=sys.executable))
    program.path.chmod(0o700)
    program.plan()
    return program
