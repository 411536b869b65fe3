"""A benchmark of days: what a user asks day by day, how each answer is graded, and what the user says to it.

Owns the files of a dataset, in the layout of MetaClaw-Bench (``all_tests.json``, ``questions.json``, a workspace), and
what is refused; refuses to know how a day is played. Invariant: a dataset of which one file is wrong is refused as a
whole, before anything is asked, and the error names every file and round that is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from metaclaw.bench.transcripts import said_before
from metaclaw.errors import ConfigError
from metaclaw.rollout.tasks import inside_folder

_INDEX = "all_tests.json"
_ROOT = "${METACLAW_ROOT}"  # as the reference system writes the folder above its dataset
_MAX_SAID = 160
_MAX_NAME = 200  # bytes

M = TypeVar("M")
InsideFolder = Annotated[str, AfterValidator(inside_folder)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)  # keys of other readers are theirs


class Lines(_Part):
    """Which lines an update is about: it inserts behind line ``after``, or deletes ``lines`` (numbers, or "3:7")."""

    after: int = Field(default=0, ge=0)
    lines: tuple[int | Annotated[str, Field(pattern=r"^\d{0,9}:\d{0,9}$")], ...] = ()


class Update(_Part):
    """What changes in the folder before a round. ``source`` lies beside ``questions.json``."""

    type: Literal["workspace", "session"] = "workspace"
    action: Literal["new", "append", "insert", "delete"]
    path: InsideFolder
    source: InsideFolder | None = None
    param: Lines = Field(default_factory=Lines)

    @model_validator(mode="after")
    def _has_a_source(self) -> Update:
        if self.action != "delete" and self.source is None:
            raise ValueError(f"'{self.action}' needs a 'source'")
        return self


class Feedback(_Part):
    """What the user says when it was right, when it was not, and of each option that was chosen wrongly or missed."""

    correct: str = ""
    incorrect: str = ""
    options: dict[str, str] = Field(default_factory=dict)


class FileEval(_Part):
    """A command that looks at the folder: right with status ``expect_exit`` and, if given, this in what it prints."""

    command: str = Field(min_length=1)
    expect_exit: int = 0
    expect_stdout: str | None = None
    expect_stdout_regex: bool = False
    timeout: float = Field(default=30.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _is_a_pattern(self) -> FileEval:
        if self.expect_stdout_regex and self.expect_stdout is not None:
            try:
                re.compile(self.expect_stdout)
            except re.error as error:
                raise ValueError(f"'expect_stdout' is no pattern: {error}") from error
        return self


class ChoiceEval(_Part):
    """Which of ``options`` are right."""

    options: dict[str, str] = Field(min_length=1)
    answer: frozenset[str] = Field(min_length=1)

    @field_validator("answer", mode="before")
    @classmethod
    def _named(cls, given: object) -> object:
        """``"A,C"`` is as good as ``["A", "C"]``."""
        return given.replace(",", " ").split() if isinstance(given, str) else given

    @field_validator("options")
    @classmethod
    def _in_capitals(cls, given: dict[str, str]) -> dict[str, str]:
        return {key.upper(): text for key, text in given.items()}

    @field_validator("answer")
    @classmethod
    def _capitals(cls, given: frozenset[str]) -> frozenset[str]:
        return frozenset(one.upper() for one in given)

    @model_validator(mode="after")
    def _answers_are_options(self) -> ChoiceEval:
        if strange := self.answer - self.options.keys():
            raise ValueError(f"the answer {sorted(strange)} is none of the options {sorted(self.options)}")
        return self


class _Round(_Part):
    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    feedback: Feedback = Field(default_factory=Feedback)
    update: tuple[Update, ...] = ()


class FileRound(_Round):
    """A piece of work, after which something must lie in the folder."""

    type: Literal["file_check"]
    eval: FileEval


class ChoiceRound(_Round):
    """A question of which the right options are to be named."""

    type: Literal["multi_choice"]
    eval: ChoiceEval


Round = Annotated[FileRound | ChoiceRound, Discriminator("type")]


class _Group(_Part):
    rounds: tuple[Round, ...] = Field(min_length=1)


def _names_a_file(name: str) -> str:
    """A day's results are a file of its name."""
    if "/" in inside_folder(name) or "\\" in name or not name.isprintable() or len(name.encode()) > _MAX_NAME:
        raise ValueError(f"{name!r} is no name of a file")
    return name


class _Test(_Part):
    id: Annotated[str, AfterValidator(_names_a_file)]
    eval: InsideFolder
    agent: str = ""
    session: str = ""
    desc: str = ""


class _Index(_Part):
    workspace_src: str
    eval_dir: str
    openclaw_state_dir: str = ""
    test: tuple[_Test, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One session of the user. ``sources`` is where its updates lie, ``said`` what was said before the first round."""

    id: str
    desc: str
    rounds: tuple[FileRound | ChoiceRound, ...]
    sources: Path
    said: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """``workspace`` is what lies in the folder of every day, ``scripts`` what grades (``None``: nothing).

    ``hidden`` is where questions, answers and what is said of them lie: no agent may see it. ``digest`` is of all that
    is asked, graded and laid out.
    """

    path: Path
    days: tuple[Day, ...]
    workspace: Path
    scripts: Path | None
    hidden: tuple[Path, ...]
    digest: str


def read_dataset(given: Path) -> Dataset:
    """The dataset of ``all_tests.json``, or of the folder that holds it. Raises ``ConfigError``."""
    path = given / _INDEX if given.is_dir() else given
    index = _read(path, TypeAdapter(_Index))
    workspace, evals = _found(index.workspace_src, path), _found(index.eval_dir, path)
    state = _found(index.openclaw_state_dir, path) if index.openclaw_state_dir else None
    days, problems = list[Day](), list[str]()
    for test in index.test:
        try:
            days.append(_day(test, evals, state))
        except ConfigError as error:
            problems.append(str(error))
    twice = sorted({day.id for day in days if sum(other.id == day.id for other in days) > 1})
    problems += [f"{path}: the id {name!r} is given twice" for name in twice]
    if problems:
        raise ConfigError("; ".join(problems))
    scripts = evals / "scripts"
    return Dataset(
        path=path,
        days=tuple(days),
        workspace=workspace,
        scripts=scripts if scripts.is_dir() else None,
        hidden=(path.resolve().parent, evals, workspace, *([state] if state else [])),
        digest=_digest(path, evals, workspace),
    )


def _day(test: _Test, evals: Path, state: Path | None) -> Day:
    sources = evals / test.eval
    path = sources / "questions.json"
    groups = _read(path, TypeAdapter(_Group | tuple[_Group, ...]))
    rounds = tuple(one for group in ((groups,) if isinstance(groups, _Group) else groups) for one in group.rounds)
    problems = list(_problems(rounds, sources))
    if problems:
        raise ConfigError("; ".join(f"{path}: {problem}" for problem in problems))
    said = () if state is None else said_before(state, agent=test.agent, session=test.session)
    return Day(id=test.id, desc=test.desc, rounds=rounds, sources=sources, said=said)


def _problems(rounds: Sequence[FileRound | ChoiceRound], sources: Path) -> Iterator[str]:
    ids = [one.id for one in rounds]
    yield from (f"round {name!r} is there twice" for name in sorted({one for one in ids if ids.count(one) > 1}))
    for one in rounds:
        for update in one.update:
            if update.source is None:
                continue
            source = sources / update.source
            if not source.is_file():
                yield f"round {one.id!r}: there is no {source}"
            elif not source.resolve().is_relative_to(sources.resolve()):
                yield f"round {one.id!r}: {source} is a link to elsewhere"


def _digest(index: Path, *trees: Path) -> str:
    """Of the index and of every file in ``trees``: what is asked of a run that goes on must be what was asked of it."""
    digest = hashlib.sha256(index.read_bytes())
    for tree in trees:
        for path in sorted(one for one in tree.rglob("*") if one.is_file() and not one.is_symlink()):
            digest.update(f"\0{path.relative_to(tree).as_posix()}\0".encode("utf-8", "surrogateescape"))
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _found(raw: str, index: Path) -> Path:
    """A folder that the index names: by its whole path, or seen from the index or a folder above it."""
    name = raw.removeprefix(_ROOT).lstrip("/") if raw.startswith(_ROOT) else raw
    for start in index.resolve().parents:
        if (start / name).is_dir():
            return start / name
    raise ConfigError(f"{index}: there is no folder {raw!r}, seen from it or from a folder above it")


def _read(path: Path, shape: TypeAdapter[M]) -> M:
    try:
        return shape.validate_json(_text(path))
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}"[:_MAX_SAID] for one in error.errors())
        raise ConfigError(f"{path}: {said}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}") from error
