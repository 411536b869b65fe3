"""What may be found by whom.

Owns the condition on units; refuses to know what is looked for. Invariant: whoever ranks units, by words or by meaning,
asks with this condition in the query itself, so that what may not be found is never even a candidate.
"""

from __future__ import annotations

from metaclaw.memory.query import Candidate, MemoryQuery
from metaclaw.memory.units import MemoryUnit

_HOLDS = "(units.superseded_by IS NULL AND (units.true_until IS NULL OR units.true_until > ?))"
# What was corrected never held.
_EVER_HELD = "(units.superseded_by IS NULL OR units.true_until IS NOT NULL)"


def visible(query: MemoryQuery) -> tuple[str, list[object]]:
    """The condition on ``units`` for what ``query`` may find, and its values."""
    conditions, values = ["units.agent = ?"], list[object]([query.agent])
    if not query.is_everything:
        conditions.append(
            "(units.scope = 'agent' OR (units.scope = 'user' AND units.user = ?)"
            " OR (units.scope = 'workspace' AND units.workspace = ?)"
            " OR (units.scope = 'session' AND units.session = ?))"
        )
        values += [query.user, query.workspace, query.session]
    conditions.append("units.trust >= ?")
    values.append(query.min_trust)
    within, spans = _during(query)
    if query.only_during:
        conditions.append(within)
        values += spans
    elif query.is_of_the_past and not query.with_history:
        conditions.append(_EVER_HELD)
    elif not query.with_history:
        conditions.append(f"({_HOLDS} OR {within})")
        values += [query.now, *spans]
    if query.kinds:
        conditions.append(f"units.kind IN ({', '.join('?' * len(query.kinds))})")
        values += query.kinds
    return " AND ".join(conditions), values


def holds(unit: MemoryUnit | Candidate, now: float) -> bool:
    """Whether ``unit`` is true now, as far as is known."""
    return unit.superseded_by is None and (unit.true_until is None or unit.true_until > now)


def _during(query: MemoryQuery) -> tuple[str, list[object]]:
    """Said in one of the spans, then or again; or beginning in it; or true in it and no longer."""
    begins = "coalesce(units.true_from, units.said_at)"
    spans = [
        f"(units.said_at >= ? AND units.said_at < ?) OR ({begins} >= ? AND {begins} < ?)"
        f" OR (units.true_until > ? AND {begins} < ?) OR EXISTS (SELECT 1 FROM unit_turns"
        " WHERE unit_turns.unit = units.id AND unit_turns.said_at >= ? AND unit_turns.said_at < ?)"
        for _ in query.during
    ]
    values: list[object] = [one for span in query.during for one in span * 4]
    return f"({_EVER_HELD} AND ({' OR '.join(spans) or '0'}))", values
