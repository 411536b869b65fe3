"""Edits of TOML that leave every other byte as it is (by tomlkit).

Owns what a place in a file means to tomlkit; refuses to know what is edited. Invariant: single values are put, each in
its table, so that a user's own tables are never written anew.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from difflib import SequenceMatcher
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
        return _without_new_blank_lines(text, _text(text, document))

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
    if "\r\n" not in before:
        return text
    if before.count("\r\n") == before.count("\n"):
        return text.replace("\n", "\r\n")
    return _with_mixed_ends(before, text)


def _without_new_blank_lines(before: str, text: str) -> str:
    """tomlkit sets what it adds apart by blank lines, which would stay when it is taken out."""
    was, now = before.splitlines(keepends=True), text.splitlines(keepends=True)
    kept: list[str] = []
    for tag, start, end, at, until in SequenceMatcher(None, was, now, autojunk=False).get_opcodes():
        has_blank = any(not line.strip() for line in was[start:end])
        kept += [line for line in now[at:until] if tag == "equal" or has_blank or line.strip()]
    return "".join(kept)


def _with_mixed_ends(before: str, text: str) -> str:
    """Every line that was there before, or stands for one, ends as it did."""
    was, now = before.splitlines(keepends=True), text.splitlines(keepends=True)
    bare = [line.replace("\r\n", "\n") for line in was]
    for tag, start, end, at, until in SequenceMatcher(None, bare, now, autojunk=False).get_opcodes():
        if tag != "equal" and end - start != until - at:
            continue
        for line, new in zip(range(start, end), range(at, until), strict=True):
            if was[line].endswith("\r\n"):
                now[new] = now[new].replace("\n", "\r\n")
    return "".join(now)


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
