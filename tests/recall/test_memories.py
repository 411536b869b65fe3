"""Memories as the gateway reads them: of whom it may, while others write, and whatever befalls the file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from metaclaw.memory.forgetting import forget
from metaclaw.memory.store import MemoryStore
from metaclaw.recall import memories as memories_module
from metaclaw.recall.candidates import About
from metaclaw.recall.memories import LastServed, StoredMemories, whose
from tests.memory.units import NOW, unit

pytestmark = pytest.mark.anyio
ABOUT = About(agent="main", session="s", user="ann", workspace="lab")
TEA = "Ann prefers green tea from Kyoto"
QUESTION = "Which green tea from Kyoto?"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory" / "units.db"


@asynccontextmanager
async def reading(path: Path, patience_s: float = 30.0) -> AsyncGenerator[StoredMemories]:
    memories = StoredMemories(path, min_score=0.4, patience_s=patience_s)
    try:
        yield memories
    finally:
        await memories.close()


def add(path: Path, *units: object) -> list[str]:
    with MemoryStore.open(path) as store:
        return store.add(list(units), now=NOW)  # type: ignore[arg-type]


def spoil(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"this is no database " * 500)


async def found(memories: StoredMemories, text: str = QUESTION, about: About = ABOUT) -> dict[str, str]:
    return {one.item: one.section for one in await memories.found(text, about, NOW) if one.is_fitting}


async def test_a_memory_is_found_from_the_moment_it_is_there_until_it_is_forgotten(path: Path) -> None:
    async with reading(path) as memories:
        assert await found(memories) == {}
        assert await memories.served(["m-1"]) == frozenset()
        [ident] = add(path, unit(TEA))
        assert list(await found(memories)) == [ident]
        assert await memories.served([ident, "m-1"]) == {ident}
        with MemoryStore.open(path) as store:
            forget(store, [ident], why="asked", now=NOW)
        assert await found(memories) == {}
        assert await memories.served([ident]) == frozenset()
        assert await memories.forgotten() == {ident}


async def test_a_file_that_is_being_made_is_no_trouble(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    sqlite3.connect(path).close()
    async with reading(path) as memories:
        assert await found(memories) == {}
        assert await memories.forgotten() == frozenset()
        [ident] = add(path, unit(TEA))
        assert list(await found(memories)) == [ident]
        assert (memories.num_failures, caplog.records) == (0, [])


async def test_what_is_distrusted_is_not_told(path: Path) -> None:
    [ident] = add(path, unit(TEA, trust=0.1))
    async with reading(path) as memories:
        assert await found(memories) == {}
        assert await memories.served([ident]) == frozenset()


async def test_memories_are_of_the_agent_or_of_whom_the_turn_is_about(path: Path) -> None:
    scopes = {"agent": {}, "user": {"user": "ann"}, "workspace": {"workspace": "lab"}, "session": {"session": "s"}}
    names = {}
    for scope, owner in scopes.items():
        [ident] = add(path, unit(f"{TEA}, as the {scope} knows", scope=scope, **owner))
        names[ident] = scope
    add(path, unit(f"{TEA}, says another agent", agent="ops"))

    async def scopes_found(about: About) -> set[str]:
        return {names[ident] for ident in await found(memories, QUESTION, about)}

    async with reading(path) as memories:
        assert await scopes_found(ABOUT) == set(scopes)
        assert await scopes_found(About(agent="main", session="z")) == {"agent"}
        for scope in scopes:
            assert await scopes_found(replace(ABOUT, memory_scope=scope)) == {"agent", scope}
        assert await scopes_found(replace(ABOUT, memory_scope="none")) == set()
        named = About(agent="main", session="z", memory_scope="lab")
        assert await scopes_found(named) == {"agent", "workspace"}


async def test_a_broken_memory_costs_what_it_would_have_told_and_nothing_else(path: Path) -> None:
    [ident] = add(path, unit(TEA))
    async with reading(path) as memories:
        assert await memories.served([ident]) == {ident}
        spoil(path)
        assert await found(memories) == {}
        assert await memories.forgotten() == frozenset()
        # What was there and cannot be checked stays as it was last seen; what was never seen is not told.
        assert await memories.served([ident, "m-2"]) == {ident}


async def test_what_was_found_a_moment_ago_counts_as_seen(path: Path) -> None:
    """It is in a block by now, and taking it out again would cost the prompt cache."""
    [ident] = add(path, unit(TEA))
    async with reading(path) as memories:
        assert list(await found(memories)) == [ident]
        spoil(path)
        assert await memories.served([ident]) == {ident}


async def test_a_memory_that_is_locked_is_waited_for_once_and_a_short_time(path: Path) -> None:
    [ident] = add(path, unit(TEA))
    async with reading(path, patience_s=0.05) as memories:
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("PRAGMA journal_mode = DELETE")
            holder.execute("BEGIN EXCLUSIVE")
            answers = await asyncio.gather(*(memories.found(QUESTION, ABOUT, NOW) for _ in range(20)))
            assert all(not answer for answer in answers)
            holder.execute("ROLLBACK")
        for _ in range(200):
            if await found(memories):
                break
            await asyncio.sleep(0.1)
        assert list(await found(memories)) == [ident]


async def test_memories_are_read_while_they_are_written(path: Path) -> None:
    [ident] = add(path, unit(TEA))
    async with reading(path) as memories:
        with MemoryStore.open(path) as store, store.writing("test"):
            assert list(await found(memories)) == [ident]


def test_a_scope_that_is_no_kind_is_the_name_of_a_workspace() -> None:
    owners = whose(About(agent="main", session="s", memory_scope="team-x"))
    assert owners is not None
    assert (owners.workspace, owners.session, owners.user) == ("team-x", "s", None)


def test_what_is_known_of_memories_that_were_served_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """PITFALLS P9: what was kept in a process that runs for months was never let go."""
    monkeypatch.setattr(memories_module, "_NUM_KNOWN", 10)
    last = LastServed()
    for number in range(100):
        last.note([f"m-{number}"], [f"m-{number}"])
    assert last.among([f"m-{number}" for number in range(100)]) == {f"m-{number}" for number in range(90, 100)}
