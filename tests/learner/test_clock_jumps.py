"""Clocks that are set back: by NTP, by hand, or because they began years ahead. Nothing may wait until they are there
again, and nothing that protects may be lifted by it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from metaclaw.config import GateSettings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import NewVersion, Sample
from metaclaw.journal.paid_calls import CallBook, PaidCall
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.gate.canary import Canaries
from metaclaw.learner.gate.watching import Watching
from metaclaw.learner.inbox import Inbox
from metaclaw.learner.windows.presence import Presence
from tests.learner.recording import Said, record

pytestmark = pytest.mark.anyio

HOUR_S, DAY_S, YEAR_S = 3600.0, 86_400.0, 365 * 86_400.0
NOW = 1.8e9


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Home:
    folder: Path
    clock: Clock = field(default_factory=Clock)

    @property
    def learning_db(self) -> Path:
        return self.folder / "learning.db"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
async def turns(home: Home) -> AsyncIterator[TurnJournal]:
    async with TurnJournal(home.folder / "turns.db") as turns:
        yield turns


@pytest.mark.parametrize(("ahead_s", "at_most_s"), [(1.0, DAY_S), (HOUR_S, DAY_S + HOUR_S), (10 * YEAR_S, 0.0)])
def test_a_rest_that_began_in_the_future_neither_ends_at_once_nor_lasts_for_years(home, ahead_s, at_most_s):
    with PolicyHolds.open(home.learning_db, clock=home.clock) as holds:
        home.clock.now += ahead_s
        holds.hold("main", "cooldown", "it got worse", for_s=DAY_S)
        home.clock.now -= ahead_s
        assert bool(holds.holds("main")) == bool(at_most_s)
        home.clock.now += at_most_s + 1
        assert holds.holds("main") == []
        holds.hold("main", "pin", "by a person")
        home.clock.now -= 10 * YEAR_S
        assert len(holds.holds("main")) == 1, "what has no end is no matter of the clock"


@pytest.mark.parametrize("ahead_s", [HOUR_S, 10 * YEAR_S])
def test_a_cap_that_was_reached_in_the_future_holds_for_its_day_and_not_for_years(home, ahead_s):
    with CallBook.open(home.learning_db, clock=home.clock) as book:
        home.clock.now += ahead_s
        book.record(PaidCall(purpose="judging", agent="main", tokens=100))
        home.clock.now -= ahead_s
        counted = book.spent("judging", last_s=DAY_S)[0]
        assert counted == (100 if ahead_s == HOUR_S else 0), "what is hours ahead may be of today"
        home.clock.now += DAY_S + HOUR_S + 1
        assert book.spent("judging", last_s=DAY_S)[0] == 0


@pytest.mark.parametrize("ahead_s", [HOUR_S, 10 * YEAR_S])
async def test_what_was_said_and_what_failed_in_the_future_is_judged_soon(home, turns, ahead_s):
    with LearningJournal.open(home.learning_db, clock=home.clock) as journal:
        inbox = Inbox(
            turns_db=home.folder / "turns.db", journal=journal, needs_followup=True, idle_s=300, clock=home.clock
        )
        home.clock.now += ahead_s
        said = Said(turn="t", exchange="x", opened_at=home.clock.now - 1, closed_at=home.clock.now)
        await record(turns, said)
        assert inbox.due(8) == []
        home.clock.now -= ahead_s
        assert [one.exchange.id for one in inbox.due(8)] == ["x"]
        home.clock.now += ahead_s
        journal.record_failure(exchange="x", agent="main", judge="j", detail={}, is_outage=True)
        assert inbox.due(8) == []
        home.clock.now -= ahead_s
        assert [one.exchange.id for one in inbox.due(8)] == ["x"]


async def test_silence_counts_from_the_end_of_the_answer_that_took_longest(home, turns):
    """Two agents at once: the long answer to the first had just been read when training began."""
    await record(
        turns,
        Said(turn="long", exchange="x", opened_at=NOW - 1800, closed_at=NOW - 10),
        Said(turn="short", exchange="y", session="o", opened_at=NOW - 1700, closed_at=NOW - 1690),
        Said(turn="ahead", exchange="z", session="p", opened_at=NOW + HOUR_S, closed_at=NOW + HOUR_S),
        Said(turn="last", exchange="w", session="q", opened_at=NOW - 1600, closed_at=NOW - 1590),
    )
    with closing(Presence(home.folder / "turns.db")) as presence:
        assert presence.quiet_s(NOW) == 10.0


async def test_silence_counts_from_when_it_was_seen_where_the_last_word_is_in_the_future(home, turns):
    said = Said(turn="t", exchange="x", opened_at=NOW + YEAR_S, closed_at=NOW + YEAR_S)
    await record(turns, said)
    with closing(Presence(home.folder / "turns.db")) as presence:
        assert [presence.quiet_s(NOW + later) for later in (0.0, 60.0, 600.0)] == [0.0, 60.0, 600.0]
        assert presence.quiet_s(NOW + 300.0) == 300.0, "set back once more"
        assert presence.quiet_s(NOW - 50.0) == 0.0
        assert presence.quiet_s(NOW) == 50.0
        await record(turns, Said(turn="u", exchange="y", opened_at=NOW + 1, closed_at=NOW + 2))
        assert presence.quiet_s(NOW + 12) == 10.0
        presence.close()


def version_that_fell(journal: LearningJournal, clock: Clock, *, share: float) -> None:
    """Version 1, of before, was always right, and version 2 of now never is."""
    for number in (1, 2):
        update = journal.claim("main", number - 1, [])
        new = NewVersion(base_model="b", state_path=f"s{number}", sampler_path=f"w{number}")
        is_tried = share if number == 2 else 0.0
        journal.commit(update, new, number=number, baseline=None, metrics={}, canary_share=is_tried)
        if number == 2:
            clock.now -= YEAR_S  # it began a year ahead
        for index in range(60):
            name = f"{number}-{index}"
            sample = Sample(
                turn=name, exchange=name, agent="main", version=number, reward=1.0 if number == 1 else -1.0,
                sampled_at=clock.now + index,
            )  # fmt: skip
            journal.record_verdict(
                exchange=name, agent="main", judge="j", score=sample.reward, detail={}, samples=[sample]
            )


async def test_a_version_that_began_to_serve_in_the_future_is_watched(home):
    with (
        LearningJournal.open(home.learning_db, clock=home.clock) as journal,
        PolicyHolds.open(home.learning_db, clock=home.clock) as holds,
    ):
        version_that_fell(journal, home.clock, share=0.0)
        assert await Watching(journal=journal, holds=holds, settings=GateSettings()).step()
        assert journal.serving("main") == 1


async def test_a_canary_that_began_in_the_future_ends(home):
    with (
        LearningJournal.open(home.learning_db, clock=home.clock) as journal,
        PolicyHolds.open(home.learning_db, clock=home.clock) as holds,
    ):
        version_that_fell(journal, home.clock, share=0.1)
        canaries = Canaries(journal=journal, holds=holds, settings=GateSettings(), clock=home.clock)
        assert await canaries.step()
        assert (journal.serving("main"), journal.canary("main")) == (1, None)
