"""Finding memories and skills: how quickly, how large, and how well.

    python -m benchmarks.recall [--sizes 1000 10000 100000] [--url http://127.0.0.1:9/v1 --model M | --path FOLDER]

Speed is that of the process that searches; nothing else should run. Its own processor time is told too, which a busy
machine spoils less. How well is said in `recall_quality`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.recall_held_out import HELD_OUT
from benchmarks.recall_quality import measure_quality
from benchmarks.recall_texts import LANGUAGES
from metaclaw.config import EmbeddingSettings
from metaclaw.memory.meanings import Meanings
from metaclaw.memory.portable import import_units
from metaclaw.memory.query import MemoryQuery
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.units import MemoryUnit
from metaclaw.memory.vector_files import write_vectors
from metaclaw.retrieval.vectors import unit_rows
from metaclaw.skills.ranking import SkillRanking
from metaclaw.skills.skill import Skill

NOW = 1_780_000_000.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--url", default="")
    parser.add_argument("--model", default="")
    parser.add_argument("--path", default="")
    parser.add_argument("--query-prefix", default="")
    parser.add_argument("--passage-prefix", default="")
    parser.add_argument("--without-quality", action="store_true")
    parser.add_argument("--min-likeness", type=float, default=0.3)
    arguments = parser.parse_args()
    settings = EmbeddingSettings(
        url=arguments.url, model=arguments.model, path=Path(arguments.path) if arguments.path else None,
        query_prefix=arguments.query_prefix, passage_prefix=arguments.passage_prefix,
        min_likeness=arguments.min_likeness, timeout_s=60,
    )  # fmt: skip
    _measure_skills(arguments.queries)
    for size in arguments.sizes:
        _measure_store(size, arguments.queries)
    if arguments.without_quality:
        return
    for name, texts in (("first", LANGUAGES), ("held-out", HELD_OUT)):
        asyncio.run(measure_quality(name, texts, settings))


def _sentences(rng: random.Random) -> Callable[[int], str]:
    """Texts whose words are as rare and as frequent as in a language (Zipf), of a vocabulary of 30,000."""
    words = [f"{rng.choice('bdfgklmnprstvz')}{rng.choice('aeiou')}{rng.choice('lmnrst')}{n:x}" for n in range(30_000)]
    weights = np.cumsum([1 / (n + 3) for n in range(len(words))]).tolist()
    return lambda length: " ".join(rng.choices(words, cum_weights=weights, k=length))


def _report(what: str, times: Iterable[tuple[float, float]]) -> None:
    in_all, own = np.array(list(times)).T * 1000
    p50, p95 = np.percentile(in_all, [50, 95])
    own_p50, own_p95 = np.percentile(own, [50, 95])
    print(
        f"{what}: p50 {p50:.3f} ms, p95 {p95:.3f} ms, longest {in_all.max():.2f} ms;"
        f" of the processor p50 {own_p50:.3f} ms, p95 {own_p95:.3f} ms",
        flush=True,
    )


def _times(call: Callable[[Any], object], arguments: Iterable[Any]) -> list[tuple[float, float]]:
    """What each call took, in all and of the processor."""
    times: list[tuple[float, float]] = []
    for argument in arguments:
        began, began_own = time.perf_counter(), time.process_time()
        call(argument)
        times.append((time.perf_counter() - began, time.process_time() - began_own))
    return times


def _measure_skills(num_queries: int) -> None:
    rng = random.Random(1)
    text = _sentences(rng)
    for number in (40, 2_000):
        skills = [Skill(name=f"skill-{n}", description=text(20), body=text(250)) for n in range(number)]
        ranking = SkillRanking(skills)
        _report(f"{number} skills", _times(ranking.ranked, [text(25) for _ in range(num_queries)]))


def _unit(number: int, text: str) -> MemoryUnit:
    at = NOW - number * 60.0
    return MemoryUnit(
        id=f"m{number}", kind="episodic", text=text, agent="main", scope="user", user="u", turns=(f"t{number // 3}",),
        said_at=at, created_at=at,
    )  # fmt: skip


def _measure_store(size: int, num_queries: int, width: int = 384) -> None:
    rng, numbers = random.Random(2), np.random.default_rng(3)
    text = _sentences(rng)
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder, MemoryStore.open(Path(folder) / "units.db") as store:
        before = process.memory_info()
        for first in range(0, size, 1000):
            units = [_unit(n, text(18)) for n in range(first, min(size, first + 1000))]
            import_units(store, units)
            vectors = unit_rows(numbers.standard_normal((len(units), width), dtype=np.float32))
            with store.writing("embed"):
                rows = {unit.id: vector.tobytes() for unit, vector in zip(units, vectors, strict=True)}
                write_vectors(store.connection, "random", width, rows)
        store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        disk = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        meanings = Meanings("random", min_likeness=0.1)
        for length in (10, 300):
            queries = [MemoryQuery(text=text(length), agent="main", user="u", now=NOW) for _ in range(num_queries)]
            _report(f"{size} memories, {length} words", _times(store.search, queries))
            asked = unit_rows(numbers.standard_normal((num_queries, width), dtype=np.float32))
            both = [(query, meanings.asked(vector)) for query, vector in zip(queries, asked, strict=True)]
            store.search(*both[0])  # maps the file
            _report(f"{size} memories, {length} words and meaning", _times(lambda one: store.search(*one), both))
        turns = [[_unit(size + 3 * n + k, text(18)) for k in range(3)] for n in range(100)]
        _report(f"{size} memories, a turn of 3 is added", _times(partial(store.add, now=NOW), turns))
        after = process.memory_info()
    own = (after.rss - getattr(after, "shared", 0)) - (before.rss - getattr(before, "shared", 0))
    print(
        f"  {disk / size * 10_000 / 2**20:.1f} MiB on disk per 10,000, vectors of {width} among them"
        f" ({width * 4 * 10_000 / 2**20:.1f}); {own / 2**20:.0f} MiB more of the process' own memory,"
        f" {after.rss / 2**20:.0f} resident with what is mapped"
    )


if __name__ == "__main__":
    main()
