"""The memory of an agent under another name, or of none any more.

Owns what follows from an agent's name in the store: whose a unit is, the digest that keeps it single, its words in the
index; refuses to know who asks. Invariant: done again it changes nothing more, and until it is done the units are found
under the name that they had.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from metaclaw.journal.agents import remove_rows, rename_rows
from metaclaw.memory.doctor import mend
from metaclaw.memory.extraction.elsewhere import discard
from metaclaw.memory.forgetting import Whose, forget, forgotten_ids, select
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.units import MemoryUnit, digest_of, new_id


def rename_memory(path: Path, old: str, new: str) -> int:
    """Make what ``old`` remembers that of ``new``; how many units."""
    if not path.exists():
        return 0
    with MemoryStore.open(path) as store:
        units = store.latest(old, limit=-1, with_history=True)
        with store.writing("rename an agent in"):
            for unit in units:
                digest = digest_of(replace(unit, agent=new))
                store.connection.execute("UPDATE units SET agent = ?, digest = ? WHERE id = ?", (new, digest, unit.id))
    rename_rows(path, old, new)
    with MemoryStore.open(path) as store:
        mend(store)  # the words of the index are an agent's
    return len(units)


def remove_memory(path: Path, agent: str, now: float) -> int:
    """Forget all that ``agent`` remembers, and that it did; how many units."""
    if not path.exists():
        return 0
    with MemoryStore.open(path) as store:
        gone = forget(store, select(store, Whose(agent=agent)), why="the agent was removed", now=now)
        discard(store, Whose(agent=agent))
    remove_rows(path, agent)
    return len(gone.ids)


def moved_to(units: Iterable[MemoryUnit], agent: str, store: MemoryStore) -> list[MemoryUnit]:
    """``units`` as those of ``agent``, with ids of their own where the store knows one of theirs, or forgot it."""
    given = [replace(unit, agent=agent) for unit in units]
    if not store.get([unit.id for unit in given]) and forgotten_ids(store).isdisjoint(unit.id for unit in given):
        return given
    fresh = {unit.id: new_id() for unit in given}
    return [
        replace(unit, id=fresh[unit.id], superseded_by=fresh.get(unit.superseded_by or "", unit.superseded_by))
        for unit in given
    ]
