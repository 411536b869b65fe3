"""YAML: where in a text each key and each value begins and ends.

Owns reading the marks of ruamel.yaml's parser; refuses to know what is changed (``yaml_document``). Invariant: the span
of a value has none of the comments and blank lines behind it, which the parser counts to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A key or a value; ``pairs`` are those of a mapping, ``text`` is a scalar's."""

    kind: Literal["mapping", "scalar", "other"]
    start: int
    end: int
    line: int
    column: int
    is_flow: bool = False
    text: str = ""
    pairs: tuple[tuple[Spot, Spot], ...] = ()

    @property
    def is_null(self) -> bool:
        return self.kind == "scalar" and self.text in ("", "~", "null")

    def pair(self, key: object) -> tuple[Spot, Spot] | None:
        return next((pair for pair in self.pairs if pair[0].kind == "scalar" and pair[0].text == key), None)


def parse(text: str) -> Spot | None:
    """The mapping that a text holds; ``None`` when it holds nothing. Raises ``ValueError``."""
    root = None
    for node in _composed(text):
        root = _spot(node, text)
    if root is not None and root.kind != "mapping" and not root.is_null:
        raise ValueError("'key: value' lines were expected")
    return root if root and root.kind == "mapping" else None


def read(text: str) -> Any:
    """The data of a text; an empty one is an empty object. Raises ``ValueError``."""
    try:
        data: Any = YAML(typ="safe", pure=True).load(text)  # pyright: ignore[reportUnknownMemberType]
    except YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    return {} if data is None else data


def _composed(text: str) -> list[Any]:
    try:
        node: Any = YAML().compose(text)  # pyright: ignore[reportUnknownMemberType]
    except YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    return [] if node is None else [node]


def _spot(node: Any, text: str) -> Spot:
    start, value, is_flow = node.start_mark, node.value, bool(getattr(node, "flow_style", False))
    if isinstance(node, MappingNode):
        pairs = tuple(_pair(key, item, text) for key, item in cast("list[tuple[Any, Any]]", value))
        end = pairs[-1][1].end if pairs and not is_flow else _end(node)
        return Spot(
            kind="mapping", start=start.index, end=end, line=start.line + 1, column=start.column, is_flow=is_flow,
            pairs=pairs,
        )  # fmt: skip
    if isinstance(node, SequenceNode):
        items = [_spot(item, text) for item in cast("list[Any]", value)]
        end = items[-1].end if items and not is_flow else _end(node)
        return Spot(kind="other", start=start.index, end=end, line=start.line + 1, column=start.column)
    end = _end(node)
    if node.style in ("|", ">"):
        end = start.index + len(text[start.index : end].rstrip())
    said = str(value) if isinstance(node, ScalarNode) else ""
    return Spot(kind="scalar", start=start.index, end=end, line=start.line + 1, column=start.column, text=said)


def _pair(key: Any, value: Any, text: str) -> tuple[Spot, Spot]:
    name, said = _spot(key, text), _spot(value, text)
    if said.kind == "scalar" and said.start == said.end:  # nothing: the parser marks where the next thing begins
        colon = text.index(":", name.end) + 1
        said = replace(said, start=colon, end=colon)
    return name, said


def _end(node: Any) -> int:
    return node.end_mark.index
