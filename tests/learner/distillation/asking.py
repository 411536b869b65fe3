"""A learner that asks a teacher elsewhere about three turns; as a program, until it is done or killed."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
from pydantic import SecretStr

from metaclaw.config import OpdSettings
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Sample
from metaclaw.journal.paid_calls import CallBook
from metaclaw.learner.datums import TrainingTurn
from metaclaw.learner.distillation.endpoint import ScoringEndpoint
from metaclaw.learner.distillation.opd import OnPolicyDistillation, Teacher
from metaclaw.learner.spending import DayCap, Spending
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.upstream import Timeouts, Upstream
from tests.learner.recording import policy_sample


def turn(name: str, prompt: list[int], tokens: list[int]) -> TrainingTurn:
    return TrainingTurn(turn=name, sample=policy_sample(prompt, tokens, [-1.0] * len(tokens)), surprise=0.0)


# The second turn goes on from the first; the third is of another session.
TURNS = [turn("a", [1, 2], [3, 4]), turn("b", [1, 2, 3, 4, 5], [6]), turn("c", [9, 9, 9, 9], [8, 7])]


def judged(learning_db: Path) -> None:
    """Samples of the turns and of one more, which wait for an update."""
    with LearningJournal.open(learning_db) as journal:
        for name in "abcd":
            sample = Sample(turn=name, exchange=f"x{name}", agent="main", version=0, reward=1.0, sampled_at=0.0)
            journal.record_verdict(exchange=f"x{name}", agent="main", judge="t", score=1.0, detail={}, samples=[sample])


@asynccontextmanager
async def asking(
    home: Path,
    there: str,
    here: str,
    *,
    usd_a_token: float | None = 0.5,
    cap: DayCap | None = None,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[OnPolicyDistillation]:
    """One that asks the teacher at the URL ``there`` and has its training server at ``here``."""

    def endpoint(url: str) -> ScoringEndpoint:
        upstream = Upstream(
            name=f"the teacher at {url}", base_url=url, api_key=SecretStr("k"), key_setting="rl.opd.api_key",
            timeouts=Timeouts(),
        )  # fmt: skip
        return ScoringEndpoint(HttpModel(session, upstream))

    with LearningJournal.open(home / "learning.db") as journal:
        async with aiohttp.ClientSession() as session:
            with closing(CallBook.open(home / "learning.db", clock=now)) as book:
                one = Teacher(
                    endpoint=endpoint(there),
                    own=endpoint(here),
                    journal=journal,
                    spending=Spending(
                        book=book, model="big", cap=cap,
                        price=lambda took: None if usd_a_token is None else usd_a_token * took.total,
                    ),
                )  # fmt: skip
                yield OnPolicyDistillation(one, OpdSettings(model="big", url=there, weight=2, max_gap=3))


async def _main(home: str, there: str, here: str) -> None:
    async with asking(Path(home), there, here) as opd:
        lesson = await opd.lesson("main", TURNS)
    taught = {name: values.tolist() for name, values in lesson.taught.items()}
    sys.stdout.write(json.dumps({"taught": taught, "numbers": lesson.numbers}))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
