"""Edits of JSON, JSON with comments and JSON5 that leave every other byte as it is.

Owns where a new member goes and what goes with one that is taken out; refuses to know the grammar (``json5_syntax``).
Invariant: what is written is strict JSON, whatever surrounds it, and taking out what was put in gives the text before.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from metaclaw.agents.documents.document import Item, Place, as_written
from metaclaw.agents.documents.json5_syntax import Child, Node, parse

_SAME_LINE = re.compile(r"(?:[ \t]*/\*[^\n\r]*?\*/)*(?:[ \t]*//[^\n\r]*)?")
_LINE_BEFORE = re.compile(r"(?:\r\n|\n|\r)?[ \t]*\Z")


@dataclass(frozen=True, slots=True)
class Json5Format:
    """``{}`` and what is in it."""

    name: str = "json5"

    def read(self, text: str) -> Any:
        return parse(text).data if text.strip() else {}

    def source(self, text: str, place: Place) -> str:
        node = _find(parse(text), place)
        return text[node.start : node.end]

    def put(self, text: str, place: Place, value: Any) -> str:
        if not text.strip():
            return f"{text}{json.dumps(as_written(place, value), indent=2, ensure_ascii=False)}\n"
        node = parse(text)
        for depth, part in enumerate(place):
            if node.kind != ("array" if isinstance(part, Item) else "object"):
                if node.kind == "scalar" and node.scalar is None and depth:
                    return _replaced(text, node, as_written(place[depth:], value))
                raise ValueError(f"line {text.count(chr(10), 0, node.start) + 1}: an object or a list was expected")
            child = _child(node, part)
            if child is None:
                return _inserted(text, node, part, as_written(place[depth + 1 :], value))
            node = child.node
        return _replaced(text, node, value)

    def put_source(self, text: str, place: Place, source: str) -> str:
        node = _find(parse(text), place)
        return text[: node.start] + source + text[node.end :]

    def remove(self, text: str, place: Place) -> str:
        group = _find(parse(text), place[:-1])
        child = _child(group, place[-1])
        assert child is not None, "the caller has seen it"
        return _removed(text, group, group.children.index(child))


def _find(node: Node, place: Place) -> Node:
    for part in place:
        child = _child(node, part)
        assert child is not None, "the caller has seen it"
        node = child.node
    return node


def _child(node: Node, part: str | Item) -> Child | None:
    if isinstance(part, Item):
        return next((child for child in node.children if part.is_it(child.node.data)), None)
    # Of two members with one name the later counts.
    return next((child for child in reversed(node.children) if child.key == part), None)


def _replaced(text: str, node: Node, value: Any) -> str:
    line = text.rfind("\n", 0, node.start) + 1
    indent = re.match(r"[ \t]*", text[line:])
    written = _written(text, value, indent[0] if indent else "", _unit(text))
    return text[: node.start] + written + text[node.end :]


def _inserted(text: str, group: Node, part: str | Item, value: Any) -> str:
    head = "" if isinstance(part, Item) else f"{json.dumps(part, ensure_ascii=False)}: "
    newline = "\r\n" if "\r\n" in text else "\n"
    if not group.children:
        base, unit = _indent_of_line(text, group.start), _unit(text)
        new = f"{newline}{base}{unit}{head}{_written(text, value, base + unit, unit)}"
        at = group.start + 1
        if not re.match(r"[ \t]*[\r\n]", text[at:]):
            new += f"{newline}{base}"
        return text[:at] + new + text[at:]
    first, last = group.children[0], group.children[-1]
    if not _is_on_own_line(text, first.start):
        new = head + json.dumps(value, ensure_ascii=False)
        at = last.end if last.comma is None else last.comma + 1
        return text[:at] + (f", {new}" if last.comma is None else f" {new},") + text[at:]
    indent = _indent_of_line(text, first.start)
    new = f"{newline}{indent}{head}{_written(text, value, indent, _unit(text))}"
    behind = last.end if last.comma is None else last.comma + 1
    same_line = _SAME_LINE.match(text, behind)
    at = same_line.end() if same_line else behind
    if last.comma is None:
        return f"{text[: last.end]},{text[last.end : at]}{new}{text[at:]}"
    return f"{text[:at]}{new},{text[at:]}"


def _removed(text: str, group: Node, index: int) -> str:
    child = group.children[index]
    start = child.start - len(_blank_before(text, child.start))
    if len(group.children) == 1:
        end = child.end if child.comma is None else child.comma + 1
        left = text[:start] + text[end:]
        inside = left[group.start + 1 : group.end - 1 - (end - start)]
        return left if inside.strip() else left[: group.start + 1] + left[group.start + 1 + len(inside) :]
    if child.comma is None:  # the last one: the comma before it goes, too
        comma = group.children[index - 1].comma
        assert comma is not None, "something follows it"
        return text[:comma] + text[comma + 1 : start] + text[child.end :]
    end = child.comma + 1
    if index == 0 and not _is_on_own_line(text, child.start):
        end += len(text[end:]) - len(text[end:].lstrip(" \t"))
        start = child.start
    return text[:start] + text[end:]


def _blank_before(text: str, at: int) -> str:
    found = _LINE_BEFORE.search(text[max(0, text.rfind("\n", 0, at) - 1) : at])
    return found[0] if found else ""


def _is_on_own_line(text: str, at: int) -> bool:
    return "\n" in _blank_before(text, at) or "\r" in _blank_before(text, at)


def _indent_of_line(text: str, at: int) -> str:
    found = re.match(r"[ \t]*", text[text.rfind("\n", 0, at) + 1 : at])
    return found[0] if found else ""


def _unit(text: str) -> str:
    """One step of indentation, as the file has it at its first indented line."""
    found = re.search(r"\n([ \t]+)[\"'\w$}\]]", text)
    return found[1] if found else "  "


def _written(text: str, value: Any, indent: str, unit: str) -> str:
    lines = json.dumps(value, indent=unit, ensure_ascii=False).split("\n")
    return ("\r\n" if "\r\n" in text else "\n").join([lines[0], *(indent + line for line in lines[1:])])
