"""How well memories are found, over the conversations of `recall_conversations`.

For the order, each message of a person is one unit, without extraction: lexical is the search of the store, vector the
likeness of its vectors alone, fused its search with both; plain BM25 over lower-case words is what they stand against.
For the threshold only what is worth remembering is kept, understood with a confidence of 0.8 as by rules, and what is
recalled is what the gateway would: how often the evidence is, how many others are, and for how many messages that ask
for nothing that was said anything is.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.recall_conversations import Conversation, conversations
from benchmarks.recall_texts import Language
from metaclaw.config import EmbeddingSettings, RecallSettings
from metaclaw.memory.asking import Asking
from metaclaw.memory.embedding import UnitEmbedding
from metaclaw.memory.query import ByMeaning, MemoryQuery
from metaclaw.memory.store import MemoryStore
from metaclaw.memory.times.asked import with_time
from metaclaw.memory.units import MemoryUnit
from metaclaw.retrieval.bm25 import Bm25Index
from metaclaw.retrieval.breaker import Breaker
from metaclaw.retrieval.configured import open_embedder
from metaclaw.upstreams.session import new_session

DEPTH = 50  # of every ranking that is looked at
_UNDERSTOOD = 0.8


async def measure_quality(name: str, texts: Mapping[str, Language], settings: EmbeddingSettings) -> None:
    """Print what was found of the evidence, by system and kind of question."""
    made = conversations(texts=texts)
    print(f"{name}: {sum(len(c.questions) for c in made)} questions, {sum(len(c.said) for c in made)} messages")
    scores: dict[tuple[str, str], list[int]] = defaultdict(list)  # (group, system) -> rank of the evidence, 0 for none
    told: dict[str, Counter[str]] = defaultdict(Counter)
    async with new_session() as session:
        embedder = open_embedder(settings, session)
        asking = None if embedder is None else Asking(embedder, min_likeness=settings.min_likeness)
        for conversation in made:
            for number, ranks in enumerate(await _ranks(conversation, embedder, asking)):
                question = conversation.questions[number]
                for system, rank in ranks.items():
                    for group in ("all", question.kind, conversation.language):
                        if group == "all" or question.kind != "in English" or group == question.kind:
                            scores[group, system].append(rank)
            await _tell(conversation, embedder, asking, told)
    for (group, system), ranks in sorted(scores.items(), key=lambda one: (one[0][0] != "all", one[0])):
        print(f"{group:12} {system:8} {_figures(ranks)}", flush=True)
    for system, counts in told.items():
        print(
            f"recalled, {system}: the evidence for {counts['evidence'] / counts['questions']:.3f} of"
            f" {counts['questions']} questions, with {counts['others'] / counts['questions']:.2f} others each;"
            f" anything for {counts['junk'] / counts['noise']:.3f} of {counts['noise']} messages that ask for nothing"
        )


def _figures(ranks: Sequence[int]) -> str:
    at_5 = sum(0 < rank <= 5 for rank in ranks) / len(ranks)
    at_10 = sum(0 < rank <= 10 for rank in ranks) / len(ranks)
    reciprocal = sum(1 / rank for rank in ranks if rank) / len(ranks)
    return f"recall@5 {at_5:.3f}  recall@10 {at_10:.3f}  MRR {reciprocal:.3f}  ({len(ranks)} questions)"


async def _ranks(made: Conversation, embedder: Breaker | None, asking: Asking | None) -> list[dict[str, int]]:
    plain = Bm25Index()
    for said in made.said:
        plain.add(said.id, Counter(_plain_words(said.text)))
    ranks: list[dict[str, int]] = []
    with tempfile.TemporaryDirectory() as folder, MemoryStore.open(Path(folder) / "units.db") as store:
        store.add([_unit(made.person, said.id, said.text, said.at) for said in made.said], now=made.now)
        await _embed(store, embedder)
        for question in made.questions:
            query = MemoryQuery(text=question.text, agent=made.person, user="u", now=made.now, limit=DEPTH)
            query = with_time(query)
            found = {"plain": [key for key, _ in plain.best(_plain_words(question.text), DEPTH)]}
            found["lexical"] = _keys(store, query, None)
            if asking is not None and (meaning := await asking.meaning(question.text)):
                near = meaning.near(store.connection, query, limit=DEPTH)
                found["vector"] = [
                    turn for one in near for unit in store.get([one.candidate.id]) for turn in unit.turns
                ]
                found["fused"] = _keys(store, query, meaning)
            ranks.append({system: _rank(keys, question.evidence) for system, keys in found.items()})
    return ranks


async def _tell(
    made: Conversation, embedder: Breaker | None, asking: Asking | None, told: dict[str, Counter[str]]
) -> None:
    recall = RecallSettings()
    with tempfile.TemporaryDirectory() as folder, MemoryStore.open(Path(folder) / "units.db") as store:
        kept = [said for said in made.said if said.is_about]
        store.add([_unit(made.person, one.id, one.text, one.at, _UNDERSTOOD) for one in kept], now=made.now)
        await _embed(store, embedder)
        evidence = {question.text: question.evidence for question in made.questions}
        noise = dict.fromkeys((said.text for said in made.said if not said.is_about), "")
        for text, wanted in (evidence | noise).items():
            query = MemoryQuery(
                text=text, agent=made.person, user="u", now=made.now, limit=recall.max_memories,
                min_score=recall.min_memory_score,
            )  # fmt: skip
            for system in ("lexical", "fused") if asking is not None else ("lexical",):
                meaning = await asking.meaning(text) if asking is not None and system == "fused" else None
                found = store.search(with_time(query), meaning)
                counts = told[system]
                if not wanted:
                    counts.update(noise=1, junk=int(bool(found)))
                    continue
                is_told = any(wanted in one.unit.turns for one in found)
                counts.update(questions=1, evidence=int(is_told), others=len(found) - is_told)


async def _embed(store: MemoryStore, embedder: Breaker | None) -> None:
    if embedder is None:
        return
    embedding = UnitEmbedding(store, embedder)
    while (number := await embedding.step()) != 0:
        if number is None:
            raise SystemExit("the embedder does not answer")


def _keys(store: MemoryStore, query: MemoryQuery, meaning: ByMeaning | None) -> list[str]:
    # Equal texts are one unit, which has the turns of all of them; the evidence is said once.
    return [turn for one in store.search(query, meaning) for turn in one.unit.turns]


def _rank(keys: list[str], evidence: str) -> int:
    return keys.index(evidence) + 1 if evidence in keys else 0


def _unit(person: str, turn: str, text: str, at: float, confidence: float = 1.0) -> MemoryUnit:
    return MemoryUnit(
        id=turn, kind="episodic", text=text, agent=person, scope="user", user="u", turns=(turn,), said_at=at,
        created_at=at, confidence=confidence,
    )  # fmt: skip


def _plain_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
