"""Edits of YAML that leave every other byte as it is.

Owns where a new line goes and which lines go with an entry that is taken out; refuses to know the grammar
(``yaml_syntax``), and does not use ruamel.yaml's writer, which lays a file out anew. Invariant: what is written
fits on one line as JSON, which is YAML too.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from metaclaw.agents.documents import yaml_syntax
from metaclaw.agents.documents.document import Item, Place, as_written
from metaclaw.agents.documents.yaml_syntax import Spot, parse

_PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*")
_COMMA_BEHIND = re.compile(r"[ \t]*,[ \t]*")
_COMMA_BEFORE = re.compile(r"[ \t]*,[ \t]*\Z")


@dataclass(frozen=True, slots=True)
class YamlFormat:
    """Keys and values, indented or in braces."""

    name: str = "yaml"

    def read(self, text: str) -> Any:
        return yaml_syntax.read(text)

    def source(self, text: str, place: Place) -> str:
        value = _found(text, place)[1]
        return text[value.start : value.end]

    def put(self, text: str, place: Place, value: Any) -> str:
        holder = parse(text)
        if holder is None:
            return _with_lines(text, len(text), _block(text, place, value, ""))
        for depth, part in enumerate(place):
            if holder.kind != "mapping":
                if not holder.is_null:
                    raise ValueError(f"line {holder.line}: 'key: value' lines were expected")
                return _replaced(text, holder, as_written(place[depth:], value))
            pair = holder.pair(part)
            if pair is None:
                return _inserted(text, holder, place[depth:], value)
            holder = pair[1]
        return _replaced(text, holder, value)

    def put_source(self, text: str, place: Place, source: str) -> str:
        value = _found(text, place)[1]
        before = text[: value.start] if source else text[: value.start].rstrip(" ")
        return before + source + text[value.end :]

    def remove(self, text: str, place: Place) -> str:
        key, value = _found(text, place)
        parent = _found(text, place[:-1]) if place[1:] else None
        holder = parent[1] if parent else parse(text)
        if holder is not None and holder.is_flow:
            if behind := _COMMA_BEHIND.match(text, value.end):
                return text[: key.start] + text[behind.end() :]
            before = _COMMA_BEFORE.search(text[: key.start])
            return text[: before.start() if before else key.start] + text[value.end :]
        line = text.rfind("\n", 0, key.start) + 1
        rest = text[_line_end(text, value.end) :]
        if parent is None or len(parent[1].pairs) > 1:
            return text[:line] + rest
        colon = text.index(":", parent[0].end) + 1  # with its only entry out, the group is empty, not nothing
        return f"{text[:colon]} {{}}{text[colon:line]}{rest}"


def _found(text: str, place: Place) -> tuple[Spot, Spot]:
    holder = parse(text)
    pair: tuple[Spot, Spot] | None = None
    for part in place:
        pair = holder.pair(part) if holder else None
        holder = pair[1] if pair else None
    if pair is None:
        raise ValueError("it comes from another place of the file (a merge key), and cannot be edited")
    return pair


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _replaced(text: str, spot: Spot, value: Any) -> str:
    gap = "" if text[spot.start - 1 : spot.start] in (" ", "\t") else " "
    return text[: spot.start] + gap + _flow(value) + text[spot.end :]


def _inserted(text: str, holder: Spot, place: Place, value: Any) -> str:
    if holder.is_flow:
        at = holder.start + 1
        more = ", " if holder.pairs else ""
        return f"{text[:at]}{_flow(as_written(place, value))[1:-1]}{more}{text[at:]}"
    indent = " " * holder.pairs[0][0].column
    return _with_lines(text, _line_end(text, holder.end), _block(text, place, value, indent))


def _with_lines(text: str, at: int, lines: str) -> str:
    start = _newline(text) if text[:at] and not text[:at].endswith("\n") else ""
    return text[:at] + start + lines + text[at:]


def _block(text: str, place: Place, value: Any, indent: str) -> str:
    lines = ""
    for part in place[:-1]:
        lines += f"{indent}{_key(part)}:{_newline(text)}"
        indent += "  "
    return f"{lines}{indent}{_key(place[-1])}: {_flow(value)}{_newline(text)}"


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _key(part: str | Item) -> str:
    assert isinstance(part, str), "no program of ours has a list in YAML"
    return part if _PLAIN_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)


def _flow(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
