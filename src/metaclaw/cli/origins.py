"""What commands say of skills and versions that were made of something which was forgotten since."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metaclaw.config import Settings
    from metaclaw.journal.descent import Descendant


def forgotten_origins(settings: Settings) -> list[Descendant]:
    """The skills and policy versions that descend from anything that was forgotten."""
    from metaclaw.memory.audit import descend_from
    from metaclaw.memory.forgetting import tombstones
    from metaclaw.memory.store import MemoryStore

    if not settings.memory_db.exists():
        return []
    with MemoryStore.open_to_look(settings.memory_db) as store:
        gone = tombstones(store)
    return descend_from(gone, turns_db=settings.turns_db, learning_db=settings.learning_db)


def remedy(one: Descendant) -> str:
    """What a user can do about a descendant; empty when nothing is to be done."""
    if one.kind == "skill":
        is_alive = one.state in ("adopted", "trial")
        return f"`metaclaw skills retire {one.name} --agent {one.agent}` ends it" if is_alive else ""
    return f"roll {one.agent} back to version {one.clean_parent}" if one.is_served else ""
