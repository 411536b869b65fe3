"""Units and questions with few words."""

from __future__ import annotations

from typing import Any

from metaclaw.memory.query import MemoryQuery
from metaclaw.memory.units import MemoryUnit, new_id

NOW = 1_700_000_000.0


def unit(text: str, **more: Any) -> MemoryUnit:
    fields: dict[str, Any] = {"id": new_id(), "kind": "semantic", "agent": "main", "scope": "agent", "said_at": NOW}
    fields |= {"created_at": NOW, "turns": ("turn-1",), **more}
    return MemoryUnit(text=text, **fields)


def asked(text: str, **more: Any) -> MemoryQuery:
    return MemoryQuery(text=text, **{"agent": "main", "now": NOW + 60, **more})


def texts(found: Any) -> list[str]:
    return [one.unit.text for one in found]
