"""Classes whose instances nobody changes, made as quickly as those that anybody may.

Owns how such a class is declared where many are made: a turn makes some thirty. Refuses to know what they hold.
Invariant: an assignment to a field is an error of types, which CI checks; at run time nothing stands in its way.

``dataclass(frozen=True)`` sets each field by a call of ``object.__setattr__``: for the 190 of a turn a twentieth of all
that the gateway takes for one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def fixed(cls: type[T]) -> type[T]:
    """A dataclass with slots and keywords alone, equal and of one hash by its fields."""
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)
