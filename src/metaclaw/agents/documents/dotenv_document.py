"""Edits of ``.env`` files that leave every other byte as it is.

Owns the lines ``NAME=value``; refuses to expand variables in them. Invariant: of several lines for one name the last
counts, as in every program that reads such a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from metaclaw.agents.documents.document import Place

_LINE = re.compile(
    r"^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][\w.-]*)[ \t]*=[ \t]*"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\r\n#]*?(?=[ \t]*(?:\r|\n|\Z)|[ \t]+#)|[^\r\n]*?(?=[ \t]*(?:\r|\n|\Z)))",
    re.MULTILINE | re.DOTALL,
)
_PLAIN = re.compile(r"[\w./:@+,=~-]+")


@dataclass(frozen=True, slots=True)
class DotenvFormat:
    """Lines ``NAME=value``."""

    name: str = "dotenv"

    def read(self, text: str) -> Any:
        return {line["name"]: _unquoted(line["value"]) for line in _LINE.finditer(text)}

    def source(self, text: str, place: Place) -> str:
        return _last(text, place)["value"]

    def put(self, text: str, place: Place, value: Any) -> str:
        if place[0] in self.read(text):
            return self.put_source(text, place, _quoted(value))
        newline = "\r\n" if "\r\n" in text else "\n"
        start = newline if text and not text.endswith(("\n", "\r")) else ""
        return f"{text}{start}{place[0]}={_quoted(value)}{newline}"

    def put_source(self, text: str, place: Place, source: str) -> str:
        line = _last(text, place)
        return text[: line.start("value")] + source + text[line.end("value") :]

    def remove(self, text: str, place: Place) -> str:
        line = _last(text, place)
        end = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)?").match(text, line.end())
        return text[: line.start()] + text[end.end() if end else line.end() :]


def _last(text: str, place: Place) -> re.Match[str]:
    return [line for line in _LINE.finditer(text) if line["name"] == place[0]][-1]


def _quoted(value: Any) -> str:
    if not isinstance(value, str) or "\n" in value or "'" in value:
        raise ValueError(f"{value!r} cannot be written into a .env file")
    return value if _PLAIN.fullmatch(value) else f"'{value}'"


def _unquoted(source: str) -> str:
    if source[:1] == '"' and len(source) > 1:
        escapes = {"n": "\n", "t": "\t", "r": "\r"}
        return re.sub(r"\\(.)", lambda found: escapes.get(found[1], found[1]), source[1:-1], flags=re.DOTALL)
    return source[1:-1] if source[:1] == "'" and len(source) > 1 else source
