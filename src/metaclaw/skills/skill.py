"""One skill: a folder with a ``SKILL.md`` (the Agent Skills standard).

Owns reading and checking that file; refuses to know where skills are kept and which one fits. Invariant: a
``Skill`` is named as its folder is, so a name can never point anywhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from metaclaw.errors import SkillError

FILE_NAME = "SKILL.md"
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_MAX_NAME = 64
_MAX_DESCRIPTION = 1024
_MAX_BYTES = 256 * 1024
_FENCE = "---"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """What a model can be told."""

    name: str
    description: str
    body: str


def is_skill_name(name: str) -> bool:
    """Whether ``name`` is one that the standard allows (and therefore no path)."""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def read_skill(folder: Path) -> Skill:
    """The skill in ``folder``. Raises ``SkillError`` with the file and the line."""
    path = folder / FILE_NAME
    try:
        raw = path.read_bytes()
        text = raw[: _MAX_BYTES + 1].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkillError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise SkillError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise SkillError(f"{path}: larger than {_MAX_BYTES // 1024} KiB; move detail into files beside it")
    return parse_skill(text, path)


def parse_skill(text: str, path: Path) -> Skill:
    """The skill that ``text`` spells; ``path`` is its file, whose folder it must be named after."""
    lines = text.splitlines()
    if not lines or lines[0].rstrip() != _FENCE:
        raise SkillError(f"{path}:1: a skill begins with a line '---' and its name and description")
    end = next((index for index, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        raise SkillError(f"{path}:1: the front matter is not closed by a second line '---'")
    fields = _front_matter("\n".join(lines[1:end]), path)
    name = _name(fields, path, lines)
    description = _description(fields, path, lines)
    body = "\n".join(lines[end + 1 :]).strip()
    if not body:
        raise SkillError(f"{path}:{end + 1}: nothing follows the front matter; say what to do")
    return Skill(name=name, description=description, body=body)


def _front_matter(text: str, path: Path) -> dict[str, Any]:
    try:
        fields: Any = YAML(typ="safe", pure=True).load(text)  # pyright: ignore[reportUnknownMemberType]
    except MarkedYAMLError as error:
        marked: Any = error
        mark = marked.problem_mark or marked.context_mark
        problem = " ".join(str(marked.problem or marked.context).split())
        raise SkillError(f"{path}:{mark.line + 2 if mark else 1}: not valid YAML: {problem}") from error
    except RecursionError:
        raise SkillError(f"{path}:2: the front matter is nested too deeply") from None
    except (YAMLError, ValueError) as error:
        raise SkillError(f"{path}:1: not valid YAML: {error}") from error
    if not isinstance(fields, dict):
        raise SkillError(f"{path}:2: the front matter must hold 'name: ...' and 'description: ...'")
    return cast(dict[str, Any], fields)


def _name(fields: dict[str, Any], path: Path, lines: list[str]) -> str:
    name: object = fields.get("name")
    where = f"{path}:{_line_of('name', lines)}"
    if not isinstance(name, str) or not is_skill_name(name):
        raise SkillError(f"{where}: name {name!r:.80} must be 1-64 of a-z, 0-9 and single hyphens")
    if name != path.parent.name:
        raise SkillError(f"{where}: name {name!r} differs from its folder {path.parent.name!r}")
    return name


def _description(fields: dict[str, Any], path: Path, lines: list[str]) -> str:
    description: object = fields.get("description")
    if not isinstance(description, str) or not 1 <= len(description.strip()) <= _MAX_DESCRIPTION:
        where = f"{path}:{_line_of('description', lines)}"
        raise SkillError(f"{where}: description must be a text of 1-{_MAX_DESCRIPTION} characters")
    return " ".join(description.split())


def _line_of(key: str, lines: list[str]) -> int:
    return next((number for number, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 1)
