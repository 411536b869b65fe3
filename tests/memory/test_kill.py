"""kill -9 of a process that remembers: an exchange was read with all that was found in it, or not at all."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from metaclaw.memory.doctor import examine
from metaclaw.memory.store import MemoryStore
from tests.memory.reading_child import exchange

ROUNDS = 8


def test_nothing_acknowledged_is_lost_and_nothing_is_there_in_part_or_twice(tmp_path: Path):
    chance, acknowledged = random.Random("kill"), -1
    path = tmp_path / "units.db"
    for _ in range(ROUNDS):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.memory.reading_child", str(path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(acknowledged + 2):  # what was read before is passed over, and one more is new
            child.stdout.readline()
        time.sleep(chance.random() * 0.1)  # any instant
        child.kill()
        told = child.communicate()[0].split()
        acknowledged = max(acknowledged + 1, *(int(number) for number in told), 0)
    with MemoryStore.open(path) as store:
        read = store.was_read([f"x{number}" for number in range(acknowledged + 2)])
        assert {f"x{number}" for number in range(acknowledged + 1)} <= read
        kept = [one.text for one in store.latest(limit=100_000)]
        whole = [exchange(number).units for number in range(acknowledged + 2) if f"x{number}" in read]
        assert sorted(kept) == sorted(one.text for units in whole for one in units)
        assert examine(store) == []
