"""kill -9 of every program in the middle of updates: nothing recorded is lost, nothing is trained twice.

The promise is for killed processes; what a power cut can take is stated in the documentation, not tested here.
``METACLAW_KILLS`` sets the number of kills (CI and ``make chaos`` use more than the default).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from demo.processes import Programs
from demo.progress import Journals, Progress
from metaclaw.journal.database import open_reader
from metaclaw.training.checkpoints import verify
from tests.fakes.tiny_model import make_tiny_model
from tests.system.traffic import Promise, Traffic

NUM_KILLS = int(os.environ.get("METACLAW_KILLS", "4"))
VICTIMS = ("engine", "learner", "gateway", "sampler", "engine", "learner", "gateway", "train-server", "start")
SETTINGS = {
    "rl.lora_rank": "4",
    "rl.update.learning_rate": "1e-3",
    "rl.update.min_exchanges": "16",
    "rl.update.max_exchanges": "16",
    "rl.update.min_informative": "1",
    "rl.update.max_kl": "5",
    "rl.remote_timeout_s": "30",
    # A random model says anything: what is tested here is not whether its versions are good.
    "rl.gate.held_out_share": "0",
    "rl.gate.min_answers": "8",
    "rl.gate.max_replays": "8",
    "rl.gate.max_answer_tokens": "8",
    "rl.gate.max_kl": "100",
    "rl.gate.max_kl_base": "100",
    "rl.gate.max_nll_rise": "100",
    "rl.gate.max_entropy_fall": "0.99",
    "rl.gate.max_length_ratio": "100",
    "rl.gate.max_repetition_rise": "1",
    "rl.gate.max_copying_rise": "1",
    "rl.gate.max_empty_rise": "1",
}


@pytest.mark.kills
@pytest.mark.timeout(120 + 60 * NUM_KILLS)
def test_whatever_is_killed_in_mid_update_no_turn_is_lost_and_none_is_trained_twice(tmp_path: Path):
    asyncio.run(_scenario(tmp_path, random.Random(f"kills {NUM_KILLS}")))


async def _scenario(tmp_path: Path, chance: random.Random) -> None:
    model = make_tiny_model(tmp_path / "tiny")
    programs = Programs(tmp_path / "home", SETTINGS, str(model), "tests.fakes.verifiers:share_of_lower_case")
    journals = Journals(programs.home)
    async with programs:
        async with Traffic(programs.gateway_url, programs.gateway_token()) as traffic:
            await _until(journals, lambda now: now.version >= 1)
            for number in range(NUM_KILLS):
                await _until(journals, lambda now: now.is_updating)
                await asyncio.sleep(chance.random() * 0.5)
                version = journals.progress().version
                await _kill(programs, VICTIMS[number % len(VICTIMS)])
                await _until(journals, lambda now, version=version: now.version > version)
        await _until_recorded(programs.home, traffic.promises)
        _check_turns(programs.home, traffic.promises)
        _check_learning(programs.home)
        _check_served_adapters(programs.home)


async def _kill(programs: Programs, victim: str) -> None:
    programs.processes()[victim].kill()
    if victim == "train-server":
        await programs.start_server()
    if victim == "start":
        await programs.start_gateway()


async def _until(journals: Journals, condition: Callable[[Progress], bool], timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition(progress := journals.progress()):
        assert time.monotonic() < deadline, f"nothing happened for {timeout_s:.0f} s: {progress}"
        await asyncio.sleep(0.02)


async def _until_recorded(home: Path, promises: list[Promise], timeout_s: float = 60.0) -> None:
    """The gateway writes its journal a moment after it answered, or when it was started again."""
    complete = {promise.turn for promise in promises if promise.is_complete}
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with closing(open_reader(home / "turns.db")) as turns:
            states = dict(turns.execute("SELECT id, state FROM turns").fetchall())
        if {promise.turn for promise in promises} <= set(states) and all(states[turn] != "open" for turn in complete):
            return
        await asyncio.sleep(0.1)


def _check_turns(home: Path, promises: list[Promise]) -> None:
    """Every turn that a client saw is recorded; every complete answer is recorded with the text that was sent."""
    with closing(open_reader(home / "turns.db")) as turns:
        rows = turns.execute("SELECT t.id, t.state, m.body FROM turns t LEFT JOIN messages m ON m.hash = t.answer")
        recorded = {turn: (state, json.loads(body or "{}").get("content") or "") for turn, state, body in rows}
        assert _column(turns, "SELECT count(*) FROM turns WHERE state = 'open' AND closed_at IS NOT NULL") == [0]
    assert len(promises) > 16
    for promise in promises:
        assert promise.turn in recorded
        state, text = recorded[promise.turn]
        if promise.is_complete:
            assert (state, text) == ("done", promise.text)


def _check_learning(home: Path) -> None:
    """Manifests, sample states and versions agree, and every trained turn was really sampled by the policy."""
    with closing(open_reader(home / "learning.db")) as learning, closing(open_reader(home / "turns.db")) as turns:
        manifested = _column(learning, "SELECT turn FROM manifests")
        assert sorted(manifested) == sorted(set(manifested))
        assert set(manifested) == set(_column(learning, "SELECT turn FROM samples WHERE state = 'consumed'"))
        assert set(manifested) <= set(_column(turns, "SELECT turn FROM samples"))
        versions = _column(learning, "SELECT version FROM versions ORDER BY version")
        assert versions == list(range(1, len(versions) + 1))
        committed = _column(learning, "SELECT id FROM updates WHERE state = 'committed' ORDER BY id")
        assert committed == _column(learning, "SELECT update_id FROM versions ORDER BY update_id")


def _check_served_adapters(home: Path) -> None:
    """Every version that was not deleted is a complete adapter on disk, with every hash as its manifest says."""
    with closing(open_reader(home / "learning.db")) as learning:
        paths = _column(learning, "SELECT sampler_path FROM versions WHERE deleted_at IS NULL")
    with closing(open_reader(home / "train-server" / "server.db")) as registry:
        rows = registry.execute("SELECT model_id, kind, name, directory FROM checkpoints")
        directories = {f"tinker://{model}/{kind}/{name}": directory for model, kind, name, directory in rows}
    for path in paths:
        verify(home / "train-server" / directories[path])


def _column(connection: sqlite3.Connection, query: str) -> list:
    return [row[0] for row in connection.execute(query)]
