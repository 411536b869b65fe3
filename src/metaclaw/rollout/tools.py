"""The tools that a task offers, done in its folder and nowhere else.

Owns their descriptions and their doing; refuses to know who calls them. Invariant: whatever a model writes is run or
read in the sandbox, files too (a link that points out of the folder points into the sandbox), and what goes wrong is
told to the model as the tool's answer, never raised.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from metaclaw.processes.confinement import SandboxError
from metaclaw.processes.sandbox import Outcome, Sandbox
from metaclaw.rollout.tasks import ToolName

Json = dict[str, Any]

MAX_SHOWN = 16_000  # characters of a result that the model is shown
_TEXT = {"type": "string"}


class ArgumentError(ValueError):
    """The model called a tool as it cannot be called."""


class Tools:
    """Those of one task. ``folder`` is where they work."""

    def __init__(self, names: Sequence[ToolName], sandbox: Sandbox, folder: Path) -> None:
        self._sandbox = sandbox
        self._folder = folder
        every: dict[str, tuple[ToolName, Json, Callable[[Json], Awaitable[str]]]] = {
            "run_command": ("shell", _RUN_COMMAND, self._run_command),
            "read_file": ("files", _READ_FILE, self._read_file),
            "write_file": ("files", _WRITE_FILE, self._write_file),
            "list_files": ("files", _LIST_FILES, self._list_files),
        }
        self._tools = {name: tool for name, tool in every.items() if tool[0] in names}

    @property
    def definitions(self) -> list[Json]:
        """As OpenAI's chat API takes them."""
        return [{"type": "function", "function": {"name": name, **tool[1]}} for name, tool in self._tools.items()]

    async def call(self, name: str, arguments: str) -> str:
        """The answer of a tool, mistakes of the model's included. Raises ``SandboxError`` when nothing can be run."""
        if name not in self._tools:
            return f"error: there is no tool {name!r}; there are {', '.join(self._tools) or 'none'}"
        _, definition, work = self._tools[name]
        try:
            return _shown(await work(_parsed(arguments, definition["parameters"])))
        except ArgumentError as error:
            return f"error: {error}"

    async def _run_command(self, given: Json) -> str:
        return _told(await self._run("/bin/sh", "-c", given["command"]))

    async def _read_file(self, given: Json) -> str:
        outcome = await self._run("/bin/sh", "-c", 'exec cat -- "$1"', "sh", given["path"])
        return outcome.stdout.decode("utf-8", "replace") if outcome.status == 0 else _told(outcome)

    async def _write_file(self, given: Json) -> str:
        script = 'case "$1" in */*) mkdir -p -- "${1%/*}" || exit 1;; esac; exec cat > "$1"'
        path, content = given["path"], given["content"]
        outcome = await self._run("/bin/sh", "-c", script, "sh", path, stdin=content.encode("utf-8", "replace"))
        return f"wrote {path}" if outcome.status == 0 else _told(outcome)

    async def _list_files(self, given: Json) -> str:
        outcome = await self._run("/bin/sh", "-c", "exec find . -type f | sort")
        return outcome.stdout.decode("utf-8", "replace") or "there are no files"

    async def _run(self, *words: str, stdin: bytes = b"") -> Outcome:
        if any("\0" in word for word in words):
            raise ArgumentError("a text with a zero byte cannot be passed on")
        try:
            return await self._sandbox.run(words, stdin=stdin, work=self._folder)
        except UnicodeEncodeError as error:
            raise ArgumentError(f"the text cannot be passed on: {error.reason}") from error
        except OSError as error:
            raise SandboxError(f"a tool could not be started: {error}") from error


def _parsed(arguments: str, schema: Mapping[str, Any]) -> Json:
    try:
        given: Any = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"the arguments are not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ArgumentError("the arguments are not a JSON object")
    found = cast("Json", given)
    for name in schema["required"]:
        if not isinstance(found.get(name), str):
            raise ArgumentError(f"the argument {name!r} must be a string")
    return found


def _told(outcome: Outcome) -> str:
    parts = [outcome.stdout.decode("utf-8", "replace"), outcome.stderr.decode("utf-8", "replace")]
    if outcome.ending != "exit":
        parts.append(f"[ended: too much {outcome.ending}]")
    elif outcome.status:
        parts.append(f"[exit status {outcome.status}]")
    return "\n".join(part.rstrip("\n") for part in parts if part.strip()) or "[no output]"


def _shown(text: str) -> str:
    if len(text) <= MAX_SHOWN:
        return text
    half = MAX_SHOWN // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def _definition(description: str, **parameters: str) -> Json:
    properties = {name: {**_TEXT, "description": what} for name, what in parameters.items()}
    return {
        "description": description,
        "parameters": {"type": "object", "properties": properties, "required": list(parameters)},
    }


_RUN_COMMAND = _definition(
    "Run a shell command in the working folder, without a network. Returns what it prints.",
    command="What /bin/sh is to run.",
)
_READ_FILE = _definition("Read a text file.", path="Its path, relative to the working folder.")
_WRITE_FILE = _definition(
    "Write a text file, replacing what is there.",
    path="Its path, relative to the working folder.",
    content="All of what is to be in it.",
)
_LIST_FILES = _definition("List the files below the working folder.")
