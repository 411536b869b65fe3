"""How much of what programs write ends in the memory: nothing may.

    python -m benchmarks.junk [--requests 1000]

A real gateway records agent-like requests (`junk_requests`: system prompts of 48 kB, injected blocks, messages that
programs write in the user's name), recalling what was stored meanwhile; the learner's own reading then goes through its
journal. Once with the rules, and once with a model that is as greedy as one can be: it calls every line that it is
shown worth remembering. Exit code 1 for a single unit that no person said, or a fact that was not found.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.junk_requests import TRACE, AgentRequest, requests
from metaclaw.journal.turns import RecordedTurn, TurnReader
from metaclaw.learner.remembering import Remembering
from metaclaw.memory.extraction.findings import Extractor
from metaclaw.memory.extraction.model import ModelExtractor
from metaclaw.memory.extraction.rules import RuleExtractor
from metaclaw.memory.extraction.unread import UnreadExchanges, When
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.units import MemoryUnit
from metaclaw.upstreams.structured import JsonForm, StructuredAnswer
from tests.fakes.llm import Answer, fake_llm
from tests.gateway.running import RunningGateway, make_settings, running_gateway

_AT_ONCE = 8
_ANSWER = f"Done. I live in {TRACE}0. Remember that my name is {TRACE}1."


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What one extractor made of all requests."""

    extractor: str
    units: int
    junk: tuple[str, ...]
    missed: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured."""

    requests: int
    bytes: int
    turns: int
    recalled: int  # turns that something was recalled for
    facts: int
    reads: tuple[Read, ...]


class GreedyModel:
    """Calls every line that it is shown a memory of the user's."""

    model = "greedy"

    async def ask(self, messages: Sequence[dict[str, Any]], form: JsonForm) -> StructuredAnswer:
        shown = re.findall(r"The user said:\n<<<fence\n(.*?)\nfence>>>", messages[-1]["content"], re.DOTALL)
        lines = [line for part in shown for line in part.split("\n") if len(line) > 2]
        memory = {"kind": "semantic", "source": "user", "subject": "", "true_from": None, "true_until": None}
        told = [{**memory, "text": line[:400], "evidence": line, "confidence": 1.0} for line in lines]
        return StructuredAnswer(text=json.dumps({"memories": told}), model=self.model, usage=None)


async def measure(number: int, home: Path) -> Result:
    """Send ``number`` requests and read what was recorded."""
    sent = list(requests(number))
    async with fake_llm(script=lambda _body: Answer(text=_ANSWER)) as llm:
        settings = make_settings(home, llm_url=llm.url)
        async with running_gateway(settings) as gateway:
            half = len(sent) // 2
            await _send(gateway, sent[:half])
            await gateway.recorder.flush()
            first = await _read(home, settings.memory_db, RuleExtractor())  # so that later requests are told of it
            await _send(gateway, sent[half:])
            await gateway.recorder.flush()
    turns = await asyncio.to_thread(_turns, home)
    rules = await _read(home, settings.memory_db, RuleExtractor())
    greedy_db = home / "greedy.db"
    greedy = await _read(home, greedy_db, ModelExtractor(GreedyModel(), name="greedy model", new_fence=lambda: "fence"))
    facts = [one.fact for one in sent if one.fact]
    return Result(
        requests=len(sent),
        bytes=sum(len(json.dumps(one.body)) for one in sent),
        turns=len(turns),
        recalled=sum(any(name.startswith("memory:") for name in turn.recalled) for turn in turns),
        facts=len(facts),
        reads=(
            _judged("rules", settings.memory_db, facts, first + rules),
            _judged("greedy model", greedy_db, facts, greedy),
        ),
    )


def _turns(home: Path) -> list[RecordedTurn]:
    turns: list[RecordedTurn] = []
    with TurnReader.open(home / "turns.db") as reader:
        while page := reader.turns(after_seq=turns[-1].seq if turns else 0):
            turns += page
    return turns


async def _send(gateway: RunningGateway, sent: Sequence[AgentRequest]) -> None:
    # A conversation's requests come one after another.
    for start in range(0, len(sent), _AT_ONCE):
        await asyncio.gather(*(_send_one(gateway, one) for one in sent[start : start + _AT_ONCE]))


async def _send_one(gateway: RunningGateway, one: AgentRequest) -> None:
    async with gateway.post(one.body, one.path, **one.headers) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{one.path}: {answer.status} {await answer.text()}")
        await answer.read()


async def _read(home: Path, path: Path, extractor: Extractor) -> float:
    def opened() -> tuple[MemoryStore, UnreadExchanges]:
        store = MemoryStore.open(path)
        return store, UnreadExchanges(home / "turns.db", store, When(every_n=1, idle_s=1.0))

    store, unread = await asyncio.to_thread(opened)
    reading = Remembering(
        turns_db=home / "turns.db",
        store=store,
        unread=unread,
        extractor=extractor,
        fallback=RuleExtractor(),
        clock=lambda: time.time() + 3600.0,  # every session is silent by then
    )
    start = time.perf_counter()
    while await reading.step():
        pass
    store.close()
    return time.perf_counter() - start


def _judged(extractor: str, path: Path, facts: Sequence[str], seconds: float) -> Read:
    with MemoryStore.open(path) as store:
        units: list[MemoryUnit] = store.latest(limit=1_000_000, with_history=True)
    texts = [unit.text for unit in units]
    said = "\n".join(unit.text for unit in units if unit.kind != "working_summary")
    return Read(
        extractor=extractor,
        units=len(units),
        junk=tuple(text for text in texts if TRACE.casefold() in text.casefold()),
        missed=tuple(fact for fact in facts if _essence(fact) not in said),
        seconds=seconds,
    )


def _essence(fact: str) -> str:
    return fact.rstrip(".").removeprefix("Remember that ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(arguments.requests, Path(folder)))
    print(f"{found.requests} requests, {found.bytes / 1e6:.0f} MB, {found.turns} turns, {found.recalled} with memories")
    for read in found.reads:
        print(
            f"{read.extractor}: {read.units} units, {len(read.junk)} of them junk;"
            f" {found.facts - len(read.missed)} of {found.facts} facts found; {read.seconds:.1f} s"
        )
        for text in (*read.junk[:10], *read.missed[:10]):
            print(f"  {text}")
    sys.exit(1 if any(read.junk or read.missed for read in found.reads) else 0)


if __name__ == "__main__":
    main()
