"""One skill: a folder with a ``SKILL.md`` (the Agent Skills standard).

Owns what the fields of that file may hold; refuses to know where skills are kept and which one fits. Invariant: a
``Skill`` is named as its folder is, and its name is one path segment, so a name can never point anywhere else.

What we write is held to the letter of the standard. What users bring is read as far as it can be: a field that the
standard does not know, or that it would have otherwise, is a note and not an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from metaclaw.errors import SkillError
from metaclaw.skills import front_matter
from metaclaw.skills.front_matter import FrontMatter

FILE_NAME = "SKILL.md"
DEFAULT_CATEGORY = "general"
MAX_BYTES = 256 * 1024
STANDARD_FIELDS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")

# Fields of other agent programs. They mean nothing here, stay in the file, and are not worth a word.
_FOREIGN_FIELDS = frozenset(
    {"agent", "argument-hint", "author", "command-arg-mode", "command-dispatch", "command-tool", "context", "homepage"}
    | {"disable-model-invocation", "hooks", "model", "tags", "user-invocable", "version", "when_to_use"}
)
_KNOWN_FIELDS = (*STANDARD_FIELDS, "category")
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_MAX_NAME, _MAX_DESCRIPTION, _MAX_COMPATIBILITY = 64, 1024, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """What a model can be told. ``notes`` say what of its file was not understood, each with its line."""

    name: str
    description: str
    body: str
    license: str = ""
    compatibility: str = ""
    allowed_tools: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    category: str = DEFAULT_CATEGORY
    notes: tuple[str, ...] = field(default=(), compare=False)


def is_skill_name(name: str) -> bool:
    """Whether ``name`` is one that the standard allows (and therefore no path)."""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def read_skill(folder: Path, *, strict: bool = False) -> Skill:
    """The skill in ``folder``. Raises ``SkillError`` with the file and the line."""
    path = folder / FILE_NAME
    return parse_skill(read_text(path), path, strict=strict)


def read_text(path: Path) -> str:
    """The text of a ``SKILL.md``. Raises ``SkillError`` when it is none, or too large."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SkillError(f"{path}: cannot be read: {error.strerror}") from error
    return decode(raw, str(path))


def decode(raw: bytes, where: str) -> str:
    """``raw`` as the text of a ``SKILL.md``. Raises ``SkillError`` when it is none, or too large."""
    if len(raw) > MAX_BYTES:
        raise SkillError(f"{where}: larger than {MAX_BYTES // 1024} KiB; move detail into files beside it")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkillError(f"{where}: not UTF-8 text (byte {error.start})") from error


def parse_skill(text: str, path: Path, *, strict: bool = False) -> Skill:
    """The skill that ``text`` spells; ``path`` is its file, whose folder it must be named after."""
    skill = parse_text(text, str(path), strict=strict)
    if skill.name != path.parent.name:
        line = front_matter.split(text, str(path)).line_of("name")
        raise SkillError(f"{path}:{line}: name {skill.name!r} differs from its folder {path.parent.name!r}")
    return skill


def parse_text(text: str, where: str, *, strict: bool = False) -> Skill:
    """The skill that ``text`` spells, wherever it lies. ``strict`` makes an error of what would be a note."""
    head = front_matter.split(text, where)
    return _Reader(head, where, strict).skill()


def render_skill(skill: Skill) -> str:
    """The text of a ``SKILL.md`` that holds ``skill`` with the fields of the standard alone."""
    metadata = dict(skill.metadata)
    if skill.category != DEFAULT_CATEGORY:
        metadata.setdefault("category", skill.category)
    fields: dict[str, Any] = {"name": skill.name, "description": skill.description}
    optional = {
        "license": skill.license,
        "compatibility": skill.compatibility,
        "metadata": metadata,
        "allowed-tools": skill.allowed_tools,
    }
    fields |= {key: value for key, value in optional.items() if value}
    return front_matter.join(front_matter.rendered(fields), skill.body)


class _Reader:
    """Reads the fields of one file."""

    def __init__(self, head: FrontMatter, where: str, strict: bool) -> None:
        self._head = head
        self._where = where
        self._strict = strict
        self._notes: list[str] = []

    def skill(self) -> Skill:
        name, description = self._name(), self._description()
        metadata = self._metadata()
        skill = Skill(
            name=name,
            description=description,
            body=self._head.body,
            license=self._text("license"),
            compatibility=self._text("compatibility", longest=_MAX_COMPATIBILITY),
            allowed_tools=self._allowed_tools(),
            metadata=metadata,
            category=self._text("category") or str(metadata.get("category") or DEFAULT_CATEGORY),
        )
        self._check_unknown_fields()
        if not skill.body:
            raise SkillError(f"{self._where}:{self._head.end}: nothing follows the front matter; say what to do")
        return replace(skill, notes=tuple(self._notes))

    def _name(self) -> str:
        name: object = self._head.fields.get("name")
        if not isinstance(name, str) or not is_skill_name(name):
            raise self._error("name", f"name {name!r:.80} must be 1-64 of a-z, 0-9 and single hyphens")
        return name

    def _description(self) -> str:
        description: object = self._head.fields.get("description")
        if not isinstance(description, str) or not 1 <= len(description.strip()) <= _MAX_DESCRIPTION:
            raise self._error("description", f"description must be a text of 1-{_MAX_DESCRIPTION} characters")
        return " ".join(description.split())

    def _text(self, key: str, *, longest: int = _MAX_DESCRIPTION) -> str:
        value: object = self._head.fields.get(key)
        if value is None:
            return ""
        if not isinstance(value, str) or not 1 <= len(value.strip()) <= longest:
            self._note(key, f"{key} must be a text of 1-{longest} characters")
            return ""
        return " ".join(value.split())

    def _allowed_tools(self) -> str:
        value: object = self._head.fields.get("allowed-tools")
        if isinstance(value, list):
            self._note("allowed-tools", "allowed-tools must be one text with spaces between the tools")
            return " ".join(str(tool) for tool in cast(list[object], value))
        return self._text("allowed-tools")

    def _metadata(self) -> dict[str, Any]:
        value: object = self._head.fields.get("metadata")
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._note("metadata", "metadata must be a mapping of names to texts")
            return {}
        entries = cast(dict[object, object], value)
        if not all(isinstance(part, str) for pair in entries.items() for part in pair):
            self._note("metadata", "metadata must map texts to texts; put numbers and dates in quotes")
        return {str(key): _word(entry) for key, entry in entries.items()}

    def _check_unknown_fields(self) -> None:
        if self._strict and "category" in self._head.fields:
            self._note("category", "category is not a field of the standard; put it under metadata")
        for key in map(str, self._head.fields):
            if key not in _KNOWN_FIELDS and (self._strict or key not in _FOREIGN_FIELDS):
                near = difflib.get_close_matches(key, _KNOWN_FIELDS, n=1)
                advice = f"did you mean {near[0]!r}?" if near else f"the standard has {', '.join(STANDARD_FIELDS)}"
                self._note(key, f"unknown field {key!r:.80}; {advice}")

    def _note(self, key: str, message: str) -> None:
        if self._strict:
            raise self._error(key, message)
        self._notes.append(f"{self._where}:{self._head.line_of(key)}: {message}")

    def _error(self, key: str, message: str) -> SkillError:
        return SkillError(f"{self._where}:{self._head.line_of(key)}: {message}")


def _word(value: object) -> Any:
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    return _plain(cast(object, value)) if isinstance(value, (dict, list)) else str(value)


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in cast(dict[object, object], value).items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in cast(list[object], value)]
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)
