"""The YAML between the two lines ``---`` at the head of a ``SKILL.md``.

Owns splitting, parsing and rewriting it; refuses to know what a field means. Invariant: every complaint names the
file and the line, and what it rewrites keeps the body, the order and the comments of the writer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from metaclaw.errors import SkillError

_FENCE = "---"
_KEY = re.compile(r"""["']?([^\s"':#][^"':]*)["']?\s*:""")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMatter:
    """What a file holds; ``lines`` are all of its lines, ``end`` is how many belong to the head, both fences too."""

    fields: Mapping[str, Any]
    lines: Sequence[str]
    end: int

    @property
    def body(self) -> str:
        return "\n".join(self.lines[self.end :]).strip()

    def line_of(self, key: str) -> int:
        """The line where the field ``key`` begins, counted from 1; 1 when there is none."""
        for number, line in enumerate(self.lines[1 : self.end], 2):
            match = _KEY.match(line)
            if match and match[1].strip() == key:
                return number
        return 1


def split(text: str, where: str) -> FrontMatter:
    """The head and the body of ``text``. Raises ``SkillError`` that begins with ``where`` and a line."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != _FENCE:
        raise SkillError(f"{where}:1: a skill begins with a line '---' and its name and description")
    end = next((index for index, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        raise SkillError(f"{where}:1: the front matter is not closed by a second line '---'")
    return FrontMatter(fields=_parsed("\n".join(lines[1:end]), where), lines=lines, end=end + 1)


def with_metadata(text: str, entries: Mapping[str, str]) -> str:
    """``text`` with ``entries`` among its ``metadata``. It must be one that ``split`` accepts."""
    head = split(text, "SKILL.md")
    yaml = YAML()
    yaml.width = 4096  # pyright: ignore[reportAttributeAccessIssue]
    fields: Any = yaml.load("\n".join(head.lines[1 : head.end - 1]))  # pyright: ignore[reportUnknownMemberType]
    metadata: object = fields.get("metadata")
    if not isinstance(metadata, dict):
        fields["metadata"] = dict(entries)
    else:
        cast(dict[str, Any], metadata).update(entries)
    return join(dumped(yaml, fields), head.body)


def join(head: str, body: str) -> str:
    """The text of a file with this YAML and this body."""
    return f"{_FENCE}\n{head.rstrip()}\n{_FENCE}\n\n{body.strip()}\n"


def rendered(fields: Mapping[str, Any]) -> str:
    """``fields`` as YAML, in their order."""
    yaml = YAML(pure=True)
    yaml.width = 4096  # pyright: ignore[reportAttributeAccessIssue]
    return dumped(yaml, dict(fields))


def dumped(yaml: YAML, fields: Any) -> str:
    """``fields`` as ``yaml`` writes them."""
    stream = StringIO()
    yaml.dump(fields, stream)  # pyright: ignore[reportUnknownMemberType]
    return stream.getvalue()


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        yaml: Any = YAML(typ="safe", pure=True)
        root = yaml.compose(text)
        _refuse_aliases(root, where)
        fields: Any = None if root is None else yaml.constructor.construct_document(root)
    except MarkedYAMLError as error:
        marked: Any = error
        mark = marked.problem_mark or marked.context_mark
        problem = " ".join(str(marked.problem or marked.context).split())
        raise SkillError(f"{where}:{mark.line + 2 if mark else 1}: not valid YAML: {problem}") from error
    except RecursionError:
        raise SkillError(f"{where}:2: the front matter is nested too deeply") from None
    except (YAMLError, ValueError) as error:
        raise SkillError(f"{where}:1: not valid YAML: {error}") from error
    if not isinstance(fields, dict):
        raise SkillError(f"{where}:2: the front matter must hold 'name: ...' and 'description: ...'")
    return cast(dict[str, Any], fields)


def _refuse_aliases(root: Any, where: str) -> None:
    # A few lines of aliases to aliases spell gigabytes, or a mapping that holds itself.
    seen: set[int] = set()
    left = [root]
    while left:
        node = left.pop()
        children: Any = getattr(node, "value", None)
        if not isinstance(children, list):
            continue
        if id(node) in seen:
            raise SkillError(f"{where}:{node.start_mark.line + 2}: aliases (&name, *name) are not read; write it out")
        seen.add(id(node))
        for child in cast(list[Any], children):
            left.extend(cast(tuple[Any, ...], child) if isinstance(child, tuple) else [child])
