"""What was recalled goes when it is forgotten.

Owns taking the text of forgotten memories out of the journal's blocks beside a running gateway; refuses to know why
something was forgotten. Invariant: without the memory's own word that a thing was forgotten nothing is erased, and what
a turn wrote while it was being forgotten is found the next time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Protocol

from metaclaw.errors import JournalError

EVERY_S = 2.0

_log = logging.getLogger(__name__)


class Tombstones(Protocol):
    """Who knows what was forgotten."""

    async def forgotten(self) -> frozenset[str]: ...


class Blocks(Protocol):
    """Where recalled text is kept."""

    async def recalled_memories(self) -> list[str]: ...

    async def erase_memories(self, memories: Collection[str]) -> int: ...

    async def empty_log(self) -> bool: ...


async def erase_forgotten(journal: Blocks, memories: Tombstones) -> int:
    """Take what was forgotten out of the blocks; how many blocks that were. Raises ``JournalError``."""
    forgotten = await memories.forgotten()
    if not forgotten:
        return 0
    gone = forgotten.intersection(await journal.recalled_memories())
    return await journal.erase_memories(sorted(gone)) if gone else 0


async def keep_erased(journal: Blocks, memories: Tombstones, every_s: float = EVERY_S) -> None:
    """Do so again and again, and empty the log behind it, until cancelled. What fails is logged and tried again."""
    is_log_due = True  # whoever was here before may have died in between
    while True:
        try:
            if erased := await erase_forgotten(journal, memories):
                is_log_due = True
                _log.info("forgotten memories were taken out of %d recorded blocks", erased)
            if is_log_due:
                is_log_due = not await journal.empty_log()
        except JournalError as error:
            _log.warning("forgotten memories could not be taken out of the journal yet: %s", error)
        await asyncio.sleep(every_s)
