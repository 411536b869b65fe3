"""Text of messages that looks like a special token, kept from becoming one.

Owns where such text is cut; refuses to know tokenizers and templates. Invariant: after the rendered prompt is split
at the cuts, no piece holds a special token that a message wrote; without such text nothing is changed at all.

A cut is one character of a private-use plane that occurs nowhere in the request, set behind the first character of
every such text. It passes templates like any other character, and being one character it cannot be cut in two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

from metaclaw.errors import InvalidRequestError

_CUTS = (*range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE))


class SpecialTextGuard:
    """Guards against the texts of one tokenizer's special tokens."""

    def __init__(self, special: Iterable[str]) -> None:
        # One character cannot be cut; no tokenizer of a chat model has such a special token.
        texts = sorted({text for text in special if len(text) > 1})
        # A look-ahead finds overlapping ones too: in ABABA both ABA.
        self._begins = re.compile(f"(?={'|'.join(map(re.escape, texts))})(.)", re.DOTALL) if texts else None

    def guard(self, value: Any) -> tuple[Any, str]:
        """``value`` (plain JSON) with its strings cut, and the cut; ``""`` when nothing had to be."""
        strings = list(_strings(value))
        begins = self._begins
        if begins is None or not any(begins.search(text) for text in strings):
            return value, ""
        cut = next(unused_characters(value))
        return _replaced(value, begins, rf"\1{cut}"), cut


def unused_characters(value: Any) -> Iterator[str]:
    """Private-use characters that occur nowhere in ``value``. Raises ``InvalidRequestError`` when there are no more."""
    used = set[str]().union(*_strings(value))
    for code in _CUTS:
        if chr(code) not in used:
            yield chr(code)
    raise InvalidRequestError("messages hold every private-use character there is", param="messages")


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in cast(dict[Any, Any], value).items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in cast(list[Any], value):
            yield from _strings(item)


def _replaced(value: Any, pattern: re.Pattern[str], by: str) -> Any:
    if isinstance(value, str):
        return pattern.sub(by, value)
    if isinstance(value, dict):
        items = cast(dict[Any, Any], value).items()
        return {_replaced(key, pattern, by): _replaced(item, pattern, by) for key, item in items}
    if isinstance(value, list):
        return [_replaced(item, pattern, by) for item in cast(list[Any], value)]
    return value
