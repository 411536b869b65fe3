"""What every format of a configuration file can do for us, and the check that an edit did that and nothing else.

Owns places in a file, how an edit would change the data, and the comparison; refuses to know any format. Invariant: a
text that comes out of here reads as the data before it with the one change, or an error is raised and there is no text.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from metaclaw.errors import WiringError

MISSING = object()


@dataclass(frozen=True, slots=True)
class Item:
    """An element of a list: the one equal to ``value``, or, with ``key``, the object that has that value there."""

    value: str
    key: str | None = None

    def is_it(self, element: object) -> bool:
        if self.key is None:
            return element == self.value
        return isinstance(element, dict) and cast("dict[str, Any]", element).get(self.key) == self.value


Part = str | Item
Place = tuple[Part, ...]


class Format(Protocol):
    """Reads and edits text of one format. Every method raises ``ValueError`` with a reason when it cannot."""

    @property
    def name(self) -> str: ...

    def read(self, text: str) -> Any:
        """The data; an empty text is an empty object."""
        ...

    def source(self, text: str, place: Place) -> str:
        """How the value at ``place``, which is there, is written."""
        ...

    def put(self, text: str, place: Place, value: Any) -> str:
        """With ``value`` at ``place``; what is missing on the way is made."""
        ...

    def put_source(self, text: str, place: Place, source: str) -> str:
        """With the value at ``place``, which is there, written as ``source``."""
        ...

    def remove(self, text: str, place: Place) -> str:
        """Without what is at ``place``, which is there."""
        ...


def value_at(data: Any, place: Place) -> Any:
    """What is at ``place`` in ``data``; ``MISSING`` when nothing is."""
    for part in place:
        data = _child(data, part)
        if data is MISSING:
            return MISSING
    return data


def depth_there(data: Any, place: Place) -> int:
    """How many of the first parts of ``place`` exist."""
    return next((depth for depth in range(len(place), 0, -1) if value_at(data, place[:depth]) is not MISSING), 0)


def put(form: Format, text: str, place: Place, value: Any) -> str:
    """``text`` with ``value`` at ``place``, checked. Raises ``ValueError``."""
    return _checked(form, text, form.put(text, place, value), lambda data: _with(data, place, value))


def put_source(form: Format, text: str, place: Place, source: str, value: Any) -> str:
    """``text`` with ``value`` at ``place`` as it was written once, checked. Raises ``ValueError``."""
    return _checked(form, text, form.put_source(text, place, source), lambda data: _with(data, place, value))


def remove(form: Format, text: str, place: Place) -> str:
    """``text`` without what is at ``place``, checked. Raises ``ValueError``."""
    return _checked(form, text, form.remove(text, place), lambda data: _without(data, place))


def shown(place: Place) -> str:
    """A place as a person writes it."""
    return ".".join(part if isinstance(part, str) else f"[{part.value}]" for part in place)


def _checked(form: Format, before: str, after: str, change: Callable[[Any], Any]) -> str:
    if form.read(after) != change(copy.deepcopy(form.read(before))):
        raise WiringError("its layout cannot be edited safely")
    return after


def _child(data: Any, part: Part) -> Any:
    if isinstance(part, Item):
        if not isinstance(data, list):
            return MISSING
        elements = cast("list[Any]", data)
        return next((element for element in elements if part.is_it(element)), MISSING)
    return cast("dict[str, Any]", data).get(part, MISSING) if isinstance(data, dict) else MISSING


def _with(data: Any, place: Place, value: Any) -> Any:
    head, *rest = place
    if isinstance(head, Item):
        elements = cast("list[Any]", data if isinstance(data, list) else [])
        at = next((index for index, element in enumerate(elements) if head.is_it(element)), None)
        old = None if at is None else elements[at]
        new = _with(old, tuple(rest), value) if rest else value
        return [*elements, new] if at is None else [*elements[:at], new, *elements[at + 1 :]]
    group = cast("dict[str, Any]", data if isinstance(data, dict) else {})
    return {**group, head: _with(group.get(head), tuple(rest), value) if rest else value}


def _without(data: Any, place: Place) -> Any:
    *way, last = place
    holder = value_at(data, tuple(way))
    if isinstance(last, Item):
        holder[:] = [element for index, element in enumerate(holder) if index != index_of(holder, last)]
    else:
        del holder[last]
    return data


def index_of(elements: Sequence[Any], item: Item) -> int:
    """Where ``item``, which is there, is in a list."""
    return next(index for index, element in enumerate(elements) if item.is_it(element))


def as_written(place: Place, value: Any) -> Any:
    """``value`` with what is missing at ``place`` around it."""
    for part in reversed(place):
        value = [value] if isinstance(part, Item) else {part: value}
    return value
