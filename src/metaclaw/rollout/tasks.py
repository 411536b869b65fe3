"""The file of tasks: one JSON object a line.

Owns its shape and what is refused; refuses to know how a task is done. Invariant: a file of which one line is wrong is
refused as a whole, before anything is asked, and the error names the file, the line and the field.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from metaclaw.errors import ConfigError, InvalidRequestError
from metaclaw.identity import agent_id

ToolName = Literal["shell", "files"]

_MAX_SHOWN = 200
_NAMED = 5  # files of a folder


def inside_folder(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name or path == PurePosixPath("."):
        raise ValueError(f"{name!r} is not a path below the task's folder")
    return name


def _named(agent: str) -> str:
    try:
        return agent_id(agent)
    except InvalidRequestError as error:
        raise ValueError(str(error)) from error


Files = dict[Annotated[str, AfterValidator(inside_folder)], str]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Verifier(_Strict):
    """Who says whether it was done well: a command in the task's folder, or what the last answer has to say.

    ``files`` are laid there after the work, so that nobody works for the check. The command reads the last answer on
    its standard input. Without ``graded`` it succeeds (0) or fails (1); with it, it prints a number from -1 to 1.
    """

    command: str = ""
    files: Files = Field(default_factory=dict)
    graded: bool = False
    contains: str = ""
    timeout_s: float = Field(default=60.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _is_one(self) -> Verifier:
        if bool(self.command) == bool(self.contains):
            raise ValueError("write either 'command' or 'contains'")
        if self.contains and (self.files or self.graded):
            raise ValueError("'files' and 'graded' belong to 'command'")
        return self


class Message(_Strict):
    """What the user says next, and who judges what became of that alone."""

    content: str = Field(min_length=1)
    verifier: Verifier | None = None


class Limits(_Strict):
    """What each command of the task may take."""

    time_s: float = Field(default=30.0, gt=0, le=3600)
    memory_mb: int = Field(default=1024, ge=16)


class Task(_Strict):
    """A conversation to have. ``max_turns`` are the model's answers to all messages together."""

    id: str = Field(min_length=1, max_length=100)
    messages: tuple[Message, ...] = Field(min_length=1)
    system: str = ""
    tools: tuple[ToolName, ...] = ("shell", "files")
    files: Files = Field(default_factory=dict)
    verifier: Verifier | None = None
    max_turns: int = Field(default=15, ge=1, le=1000)
    limits: Limits = Field(default_factory=Limits)
    agent: Annotated[str, AfterValidator(_named)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: object) -> object:
        """``task_id`` and ``instruction``, as the reference system has them, and messages that are mere texts."""
        if not isinstance(given, dict):
            return given
        task = dict(cast("dict[str, Any]", given))
        if "task_id" in task and "id" not in task:
            task["id"] = task.pop("task_id")
        if "instruction" in task and "messages" not in task:
            task["messages"] = [task.pop("instruction")]
        messages = task.get("messages")
        if isinstance(messages, list):
            every = cast("list[object]", messages)
            task["messages"] = [{"content": one} if isinstance(one, str) else one for one in every]
        return task


def read_tasks(path: Path) -> list[Task]:
    """All tasks of ``path``; empty lines are skipped. Raises ``ConfigError`` that names every line that is wrong."""
    if path.is_dir():
        inside = ", ".join(sorted(file.name for file in path.glob("*.jsonl"))[:_NAMED]) or "there is no .jsonl in it"
        raise ConfigError(f"{path} is a folder; name one file of tasks: {inside}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
    tasks, problems, lines_of = list[Task](), list[str](), dict[str, int]()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            task = _task(line)
            if (earlier := lines_of.setdefault(task.id, number)) != number:
                raise ValueError(f"id: {task.id!r} is the id of line {earlier} already")
            tasks.append(task)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise ConfigError(f"{path}: " + "; ".join(problems))
    if not tasks:
        raise ConfigError(f"{path} has no task: write one JSON object a line")
    return tasks


def _task(line: str) -> Task:
    try:
        return Task.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise ValueError(f"column {error.colno}: not JSON: {error.msg}") from error
    except ValidationError as error:
        raise ValueError("; ".join(_said(one["loc"], one["msg"]) for one in error.errors())) from error


def _said(where: tuple[int | str, ...], what: str) -> str:
    name = ".".join(str(part) for part in where if part != "[key]")
    return f"{name}: {what}"[:_MAX_SHOWN] if name else what[:_MAX_SHOWN]
