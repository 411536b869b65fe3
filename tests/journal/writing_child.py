"""A process that writes turns and says which ones are acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path

from metaclaw.journal.turns import TurnJournal
from tests.journal.test_turns import SAMPLE, done, new_turn, user


async def _talk(journal: TurnJournal) -> None:
    history = [user(uuid.uuid4().hex)]
    while True:
        turn_id = uuid.uuid4().hex
        await journal.open_turn(new_turn(turn_id, *history))
        sys.stdout.write(f"opened {turn_id}\n")
        sys.stdout.flush()
        await journal.close_turn(turn_id, done(sample=SAMPLE))
        sys.stdout.write(f"closed {turn_id}\n")
        sys.stdout.flush()
        history = [*history[-4:], user(uuid.uuid4().hex)]


async def _main() -> None:
    async with TurnJournal(Path(sys.argv[1])) as journal, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(_talk(journal))


if __name__ == "__main__":
    asyncio.run(_main())
