"""A home as a gateway and a learner leave it, and the real `metaclaw dashboard` on it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Baseline, NewVersion, Sample
from metaclaw.journal.lessons import TaughtTurn
from metaclaw.journal.turns import TurnJournal, Weighed
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.units import MemoryUnit
from tests.cli.programs import METACLAW, environment
from tests.journal.test_turns import SAMPLE, done, new_turn, user

HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
NOW = time.time()
# At noon: a minute's turns are then all of one day.
THREE_DAYS_AGO = (datetime.now().replace(hour=12, minute=0) - timedelta(days=3)).timestamp()  # noqa: DTZ005
WEIGHED = (Weighed(kind="memory", item="m1", score=0.75, outcome="recalled"),)


@dataclass(frozen=True)
class Served:
    address: str
    url: str

    @contextmanager
    def client(self) -> Generator[httpx2.Client]:
        """A browser that has opened the address."""
        with httpx2.Client(base_url=self.url, follow_redirects=True) as client:
            assert client.get(self.address).status_code == 200
            yield client


@contextmanager
def dashboard(home: Path, how: str = "--no-open", **variables: str) -> Generator[Served]:
    with subprocess.Popen(
        [*METACLAW, "dashboard", "--port", "0", how], env={**environment(home), **variables}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            address = process.stdout.readline().rpartition(" ")[2].strip()
            yield Served(address=address, url=address.partition("/enter")[0])
        finally:
            process.terminate()
            process.wait(20)


async def _turns(home: Path) -> None:
    async with TurnJournal(home / "turns.db") as journal:
        for number in range(60):
            at = THREE_DAYS_AGO + number
            turn = new_turn(f"side{number}", user(f"q{number}"), kind="side", session="many", opened_at=at)
            await journal.open_turn(turn)
            await journal.close_turn(turn.id, done(closed_at=at + 1))
        asked = new_turn(
            "t1", user(f"{HOSTILE}\ud800"), exchange="ex-1-a", recalled=("memory:m1",), weighed=WEIGHED, opened_at=NOW
        )
        await journal.open_turn(asked)
        await journal.close_turn("t1", done(sample=SAMPLE, closed_at=NOW + 2.5))
        await journal.open_turn(new_turn("t2", user("x"), agent="research", session="other", opened_at=NOW))
        await journal.close_turn("t2", replace(done(closed_at=NOW + 1), state="failed", status=502, error="it is down"))


def _learning(home: Path) -> None:
    sample = Sample(turn="t1", exchange="ex-1-a", agent="main", version=0, reward=0.5, sampled_at=1.0)
    with LearningJournal.open(home / "learning.db") as learning:
        learning.record_verdict(
            exchange="ex-1-a", agent="main", judge="verifier", score=0.5, detail={}, samples=[sample]
        )
        update = learning.claim("main", 0, ["t1"])
        nothing = TaughtTurn(turn="t1", method="opd", teacher="big", num_tokens=1, gap=float("nan"), change=None)
        learning.commit(
            update,
            NewVersion(base_model="b", state_path="s", sampler_path="p"),
            number=1,
            metrics={"gate/kl": 0.01},
            baseline=Baseline(value=0.5, num_rewards=1),
            lessons=[nothing],
        )


@pytest.fixture(scope="session")
def make_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    def make() -> Path:
        home = tmp_path_factory.mktemp("home")
        asyncio.run(_turns(home))
        _learning(home)
        (home / "memory").mkdir()
        with MemoryStore.open(home / "memory" / "units.db") as store:
            store.add([
                MemoryUnit(id="m1", kind="preference", text=f"likes tea {HOSTILE}", agent="main", scope="agent",
                           said_at=NOW, created_at=NOW, turns=("t1",)),
            ], now=NOW)  # fmt: skip
        return home

    return make


@pytest.fixture(scope="session")
def full(make_home: Callable[[], Path]) -> Generator[Served]:
    """One that all tests look at, since none can change it."""
    with dashboard(make_home()) as served:
        yield served
