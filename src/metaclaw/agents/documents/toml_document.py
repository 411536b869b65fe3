"""Edits of TOML that leave every other byte as it is (by tomlkit).

Owns what a place in a file means to tomlkit; refuses to know what is edited. Invariant: single values are put, each in
its table, so that a user's own tables are never written anew.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, cast

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Item as TomlItem

from metaclaw.agents.documents.document import Item, Place


@dataclass(frozen=True, slots=True)
class TomlFormat:
    """Tables and keys."""

    name: str = "toml"

    def read(self, text: str) -> Any:
        return _parsed(text).unwrap()

    def source(self, text: str, place: Place) -> str:
        value: Any = _parsed(text)
        for part in place:
            value = value[part]
        return cast("TomlItem", value).as_string()

    def put(self, text: str, place: Place, value: Any) -> str:
        document = _parsed(text)
        _put(document, place, cast("TomlItem", tomlkit.item(value)))
        return _text(text, document)

    def put_source(self, text: str, place: Place, source: str) -> str:
        document = _parsed(text)
        _put(document, place, tomlkit.value(source))
        return _text(text, document)

    def remove(self, text: str, place: Place) -> str:
        document = _parsed(text)
        holder: Any = document
        for part in place[:-1]:
            holder = holder[part]
        del holder[place[-1]]
        return _text(text, document)


def _parsed(text: str) -> tomlkit.TOMLDocument:
    try:
        # tomlkit writes \n between keys of its own.
        return tomlkit.parse(text.replace("\r\n", "\n"))
    except TOMLKitError as error:
        raise ValueError(str(error)) from None


def _text(before: str, document: tomlkit.TOMLDocument) -> str:
    text = tomlkit.dumps(document)  # pyright: ignore[reportUnknownMemberType]
    return text.replace("\n", "\r\n") if "\r\n" in before else text


def _put(document: tomlkit.TOMLDocument, place: Place, value: TomlItem) -> None:
    holder: MutableMapping[str, Any] = document
    for depth, part in enumerate(place[:-1]):
        assert not isinstance(part, Item), "no program of ours has a list in TOML"
        if part not in holder:
            # A table above another one has no line of its own.
            holder[part] = tomlkit.table(is_super_table=depth < len(place) - 2)
        if not isinstance(holder[part], MutableMapping):
            raise ValueError(f"{part} is no table")
        holder = holder[part]
    assert isinstance(place[-1], str), "no program of ours has a list in TOML"
    holder[place[-1]] = value
