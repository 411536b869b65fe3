"""Finding memories and skills: how quickly, how large, and how well.

    python -m benchmarks.recall [--sizes 1000 10000 100000] [--url http://127.0.0.1:9/v1 --model M | --path FOLDER]

Speed is that of the process that searches; nothing else should run. Quality is measured over the conversations of
`recall_conversations`, each message of a person kept as one unit, without extraction: lexical is the search of
`memory.store`, vector the likeness of vectors, fused both by reciprocal rank; plain BM25 over lower-case words is what
they stand against. Vectors need an embedder.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.recall_conversations import Conversation, conversations
from metaclaw.config import EmbeddingSettings
from metaclaw.memory.query import MemoryQuery
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.units import MemoryUnit
from metaclaw.retrieval.bm25 import Bm25Index
from metaclaw.retrieval.breaker import Breaker
from metaclaw.retrieval.configured import open_embedder
from metaclaw.retrieval.fusion import fuse
from metaclaw.retrieval.likeness import Likeness
from metaclaw.retrieval.vectors import nearest, unit_rows
from metaclaw.skills.ranking import SkillRanking
from metaclaw.skills.skill import Skill
from metaclaw.upstreams.session import new_session

NOW = 1_780_000_000.0
DEPTH = 50  # of every ranking that is looked at
Ranking = list[tuple[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--url", default="")
    parser.add_argument("--model", default="")
    parser.add_argument("--path", default="")
    parser.add_argument("--query-prefix", default="")
    parser.add_argument("--passage-prefix", default="")
    arguments = parser.parse_args()
    settings = EmbeddingSettings(
        url=arguments.url, model=arguments.model, path=Path(arguments.path) if arguments.path else None,
        query_prefix=arguments.query_prefix, passage_prefix=arguments.passage_prefix, timeout_s=60,
    )  # fmt: skip
    _measure_skills(arguments.queries)
    for size in arguments.sizes:
        _measure_store(size, arguments.queries)
    _measure_vectors(arguments.sizes, arguments.queries)
    asyncio.run(_measure_quality(settings))


def _sentences(rng: random.Random) -> Callable[[int], str]:
    """Texts whose words are as rare and as frequent as in a language (Zipf), of a vocabulary of 30,000."""
    words = [f"{rng.choice('bdfgklmnprstvz')}{rng.choice('aeiou')}{rng.choice('lmnrst')}{n:x}" for n in range(30_000)]
    weights = np.cumsum([1 / (n + 3) for n in range(len(words))]).tolist()
    return lambda length: " ".join(rng.choices(words, cum_weights=weights, k=length))


def _report(what: str, seconds: Iterable[float]) -> None:
    times = np.array(list(seconds)) * 1000
    p50, p95 = np.percentile(times, [50, 95])
    print(f"{what}: p50 {p50:.3f} ms, p95 {p95:.3f} ms, longest {times.max():.2f} ms", flush=True)


def _times(call: Callable[[Any], object], arguments: Iterable[Any]) -> list[float]:
    times: list[float] = []
    for argument in arguments:
        began = time.perf_counter()
        call(argument)
        times.append(time.perf_counter() - began)
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


def _measure_store(size: int, num_queries: int) -> None:
    rng = random.Random(2)
    text = _sentences(rng)
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.db"
        with MemoryStore.open(path) as store:
            for first in range(0, size, 500):
                store.add([_unit(n, text(18)) for n in range(first, min(size, first + 500))], now=NOW)
            queries = [MemoryQuery(text=text(10), agent="main", user="u", now=NOW) for _ in range(num_queries)]
            _report(f"{size} memories, search", _times(store.search, queries))
            turns = [[_unit(size + 3 * n + k, text(18)) for k in range(3)] for n in range(100)]
            _report(f"{size} memories, a turn of 3 is added", _times(partial(store.add, now=NOW), turns))
        disk = sum(file.stat().st_size for file in Path(folder).iterdir())
        resident = process.memory_info().rss
    print(f"  {disk / size * 10_000 / 2**20:.1f} MiB on disk per 10,000; {resident / 2**20:.0f} MiB resident")


def _measure_vectors(sizes: Sequence[int], num_queries: int, width: int = 384) -> None:
    rng = np.random.default_rng(3)
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "vectors.npy"
            np.save(file, unit_rows(rng.standard_normal((size, width), dtype=np.float32)))
            rows = np.load(file, mmap_mode="r")
            keys = [str(number) for number in range(size)]
            queries = unit_rows(rng.standard_normal((num_queries, width), dtype=np.float32))
            _report(f"{size} vectors of {width}", _times(partial(nearest, rows=rows, keys=keys, limit=50), queries))
    print(f"  {width * 4 * 10_000 / 2**20:.1f} MiB per 10,000")


async def _measure_quality(settings: EmbeddingSettings) -> None:
    everything = conversations()
    scores: dict[tuple[str, str], list[int]] = defaultdict(list)  # (system, group) -> rank of the evidence, 0 for none
    async with new_session() as session:
        embedder = open_embedder(settings, session)
        with tempfile.TemporaryDirectory() as folder, MemoryStore.open(Path(folder) / "memory.db") as store:
            for conversation in everything:
                rankings = await _rankings(conversation, store, embedder)
                for system, answers in rankings.items():
                    for question, ranking in zip(conversation.questions, answers, strict=True):
                        keys = [key for key, _ in ranking]
                        rank = keys.index(question.evidence) + 1 if question.evidence in keys else 0
                        for group in ("all", question.kind, conversation.language):
                            if group == "all" or question.kind != "in English" or group == question.kind:
                                scores[system, group].append(rank)
    print(f"{sum(len(c.questions) for c in everything)} questions, {sum(len(c.said) for c in everything)} messages")
    for group in dict.fromkeys(group for _, group in scores):
        for system in dict.fromkeys(system for system, _ in scores):
            print(f"{group:12} {system:8} {_figures(scores[system, group])}", flush=True)


def _figures(ranks: Sequence[int]) -> str:
    at_5 = sum(0 < rank <= 5 for rank in ranks) / len(ranks)
    at_10 = sum(0 < rank <= 10 for rank in ranks) / len(ranks)
    reciprocal = sum(1 / rank for rank in ranks if rank) / len(ranks)
    return f"recall@5 {at_5:.3f}  recall@10 {at_10:.3f}  MRR {reciprocal:.3f}  ({len(ranks)} questions)"


async def _rankings(made: Conversation, store: MemoryStore, embedder: Breaker | None) -> dict[str, list[Ranking]]:
    questions = [question.text for question in made.questions]
    plain = Bm25Index()
    for said in made.said:
        plain.add(said.id, Counter(_plain_words(said.text)))
    store.add([_said_unit(made.person, said.id, said.text, said.at) for said in made.said], now=made.now)
    found: dict[str, list[Ranking]] = {
        "plain": [plain.best(_plain_words(text), DEPTH) for text in questions],
        "lexical": [_lexical(store, made, text) for text in questions],
    }
    if embedder is not None:
        passages = await embedder.embed([said.text for said in made.said], kind="passage")
        asked = await embedder.embed(questions, kind="query")
        if passages is None or asked is None:
            raise SystemExit("the embedder does not answer")
        likeness = Likeness([said.id for said in made.said], passages)
        found["vector"] = [likeness.nearest(query, DEPTH) for query in asked]
        found["fused"] = [
            [(one.key, one.score) for one in fuse({"words": words, "meaning": meaning})]
            for words, meaning in zip(found["lexical"], found["vector"], strict=True)
        ]
    return found


def _lexical(store: MemoryStore, made: Conversation, text: str) -> Ranking:
    query = MemoryQuery(text=text, agent=made.person, user="u", now=made.now, limit=DEPTH)
    # Equal texts are one unit, which has the turns of all of them; the evidence is said once.
    return [(turn, found.score) for found in store.search(query) for turn in found.unit.turns]


def _said_unit(person: str, turn: str, text: str, at: float) -> MemoryUnit:
    return MemoryUnit(
        id=turn, kind="episodic", text=text, agent=person, scope="user", user="u", turns=(turn,), said_at=at,
        created_at=at,
    )  # fmt: skip


def _plain_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


if __name__ == "__main__":
    main()
