"""JSON, JSON with comments and JSON5: where in a text each value begins and ends.

Owns the grammar; refuses to know what is changed (``json5_document``). Invariant: the spans are those of the text as it
is given, and a text that JSON5 does not allow is refused with its line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

_BLANK = re.compile(r"(?:[\s\ufeff]|//[^\n\r\u2028\u2029]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\n\r]|\\(?:\r\n|.))*"|\'(?:[^\'\\\n\r]|\\(?:\r\n|.))*\'', re.DOTALL)
_NAME = re.compile(r"[^\W\d][\w$]*|[$][\w$]*")
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|Infinity|NaN|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(\r\n|.))", re.DOTALL)
_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}
_LINE_ENDS = ("\n", "\r", "\r\n", "\u2028", "\u2029")
_WORDS = {"true": True, "false": False, "null": None}
_MAX_DEPTH = 200


@dataclass(slots=True)
class Node:
    """A value: its span, and what is in it."""

    kind: Literal["object", "array", "scalar"]
    start: int
    end: int = 0
    scalar: Any = None
    children: list[Child] = field(default_factory=list["Child"])

    @property
    def data(self) -> Any:
        if self.kind == "object":
            return {child.key: child.node.data for child in self.children}
        return [child.node.data for child in self.children] if self.kind == "array" else self.scalar


@dataclass(slots=True)
class Child:
    """A member or an element: from ``start`` (its key's) to ``end``; ``comma`` is where the one behind it stands."""

    key: str
    start: int
    node: Node
    comma: int | None = None

    @property
    def end(self) -> int:
        return self.node.end


def parse(text: str) -> Node:
    """The one value of a text. Raises ``ValueError`` with the line of what is wrong."""
    parser = _Parser(text)
    root = parser.value(parser.blank(0), 0)
    if (end := parser.blank(root.end)) != len(text):
        raise parser.error(end, "something follows the end")
    return root


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text

    def error(self, at: int, what: str) -> ValueError:
        return ValueError(f"line {self._text.count(chr(10), 0, at) + 1}: {what}")

    def blank(self, at: int) -> int:
        found = _BLANK.match(self._text, at)
        assert found is not None, "it matches nothing at least"
        return found.end()

    def value(self, at: int, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise self.error(at, "it is nested too deep")
        char = self._text[at : at + 1]
        if char == "{":
            return self._group(at, depth, "object", "}")
        if char == "[":
            return self._group(at, depth, "array", "]")
        return self._scalar(at)

    def _group(self, at: int, depth: int, kind: Literal["object", "array"], closing: str) -> Node:
        node = Node(kind=kind, start=at)
        at = self.blank(at + 1)
        while self._text[at : at + 1] != closing:
            if node.children and node.children[-1].comma is None:
                raise self.error(at, f"a comma or {closing!r} is missing")
            child = self._child(at, depth, is_member=kind == "object")
            node.children.append(child)
            at = self.blank(child.end)
            if self._text[at : at + 1] == ",":
                child.comma = at
                at = self.blank(at + 1)
        node.end = at + 1
        return node

    def _child(self, at: int, depth: int, *, is_member: bool) -> Child:
        if not is_member:
            return Child(key="", start=at, node=self.value(at, depth + 1))
        key, end = self._key(at)
        colon = self.blank(end)
        if self._text[colon : colon + 1] != ":":
            raise self.error(colon, f"':' is missing behind the key {key[:40]!r}")
        return Child(key=key, start=at, node=self.value(self.blank(colon + 1), depth + 1))

    def _key(self, at: int) -> tuple[str, int]:
        if found := _STRING.match(self._text, at):
            return self._unquoted(found[0], at), found.end()
        if found := _NAME.match(self._text, at):
            return found[0], found.end()
        raise self.error(at, "a key is missing, or a bracket is never closed")

    def _scalar(self, at: int) -> Node:
        if found := _STRING.match(self._text, at):
            return Node(kind="scalar", start=at, end=found.end(), scalar=self._unquoted(found[0], at))
        if found := _NUMBER.match(self._text, at):
            return Node(kind="scalar", start=at, end=found.end(), scalar=_number(found[0]))
        found = _NAME.match(self._text, at)
        if found and found[0] in _WORDS:
            return Node(kind="scalar", start=at, end=found.end(), scalar=_WORDS[found[0]])
        raise self.error(at, "a value is missing, or a text has no quotes or is never closed")

    def _unquoted(self, quoted: str, at: int) -> str:
        if quoted[0] == '"':
            try:
                return json.loads(quoted)
            except ValueError:
                pass  # an escape that only JSON5 has
        text = _ESCAPE.sub(_unescaped, quoted[1:-1])
        try:
            # Two escapes may be the halves of one character.
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self.error(at, "half a character is escaped") from None


def _unescaped(found: re.Match[str]) -> str:
    if code := found[1] or found[2]:
        return chr(int(code, 16))
    return "" if found[3] in _LINE_ENDS else _SIMPLE.get(found[3], found[3])


def _number(text: str) -> int | float:
    sign, digits = (-1 if text[0] == "-" else 1), text.lstrip("+-")
    if digits[:2] in ("0x", "0X"):
        return sign * int(digits, 16)
    if digits in ("Infinity", "NaN"):
        return sign * float(digits.lower())
    return sign * (int(digits) if digits.isdecimal() else float(digits))
