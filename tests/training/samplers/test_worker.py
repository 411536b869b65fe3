"""The sampler as a real child process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from metaclaw.training.commands import Cancel, UnloadAdapter
from tests.training.samplers.conftest import Family
from tests.training.samplers.loops import generate
from tests.training.samplers.workers import SamplerProcess


@pytest.fixture(scope="module")
def sampler(tied: Family, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SamplerProcess]:
    worker = SamplerProcess(tied.base, max_concurrent=8)
    for name in ("a", "b"):
        worker.load(name, tied.adapters[name], tmp_path_factory.mktemp("served"))
    yield worker
    worker.close()


def test_it_says_what_it_has_loaded(sampler: SamplerProcess) -> None:
    assert sampler.ready["vocab_size"] == 263
    assert sampler.ready["max_context"] == 2048
    assert sampler.ready["tied_embeddings"]


def test_concurrent_requests_get_what_each_got_alone(sampler: SamplerProcess) -> None:
    commands = [
        generate(f"request number {number} " * (number + 1), (None, "a", "b")[number % 3], max_tokens=10 + number)
        for number in range(12)
    ]
    alone = [sampler.ask(command).tokens() for command in commands]
    posted = [sampler.post(command) for command in commands]
    assert [sampler.wait(frame_id).tokens() for frame_id in posted] == alone
    assert len({tuple(tokens) for tokens in alone}) == 12


def test_adapters_are_swapped_under_load_without_a_failed_request(
    sampler: SamplerProcess, tied: Family, tmp_path: Path
) -> None:
    """ART #661, R8: no request fails, none changes its weights on the way, and none is served by stale ones."""
    prompt = "what has changed since yesterday?"
    expected = {name: sampler.ask(generate(prompt, name, max_tokens=150)).tokens() for name in ("a", "b")}
    asked: list[tuple[int, str]] = []
    num_running_when_unloaded = 0
    for version in range(4):
        name, weights = f"agent@{version}", ("a", "b")[version % 2]
        assert sampler.load(name, tied.adapters[weights], tmp_path).end["ok"] == {}
        running = [sampler.post(generate(prompt, name, max_tokens=150)) for _ in range(4)]
        asked += [(frame_id, weights) for frame_id in running]
        sampler.wait_until(running[-1], lambda answer: len(answer.tokens()) >= 3)
        assert sampler.ask(UnloadAdapter(adapter_id=name)).end["ok"] == {}
        num_running_when_unloaded += sum(sampler.answers.by_id[frame_id].end is None for frame_id in running)
        assert sampler.ask(generate(prompt, name)).error["code"] == "not_found"
    for frame_id, weights in asked:
        answer = sampler.wait(frame_id)
        assert "ok" in answer.end
        assert answer.tokens() == expected[weights]
    assert num_running_when_unloaded >= 8


def test_a_cancelled_stream_stops_and_frees_its_rows(sampler: SamplerProcess) -> None:
    endless = [sampler.post(generate("on and on", max_tokens=1900, num_samples=4)) for _ in range(2)]
    sampler.wait_until(endless[1], lambda answer: len(answer.events) > 8)
    blocked = sampler.post(generate("my turn", max_tokens=4))
    assert sampler.ask(Cancel(target=endless[0])).end["ok"] == {}
    assert len(sampler.wait(blocked).tokens()) == 4
    assert sampler.answers.by_id[endless[0]].end["ok"] == {"cancelled": True}
    assert sampler.answers.by_id[endless[1]].end is None
    sampler.ask(Cancel(target=endless[1]))


def test_bad_input_is_refused_and_the_next_request_is_served(sampler: SamplerProcess) -> None:
    for command in (generate([]), generate([999]), generate([1] * 3000), generate("x", "nobody")):
        assert sampler.ask(command).error["caller_fault"]
    assert len(sampler.ask(generate("still here", max_tokens=3)).tokens()) == 3


def test_an_idle_sampler_takes_no_processor_time(sampler: SamplerProcess) -> None:
    sampler.ask(generate("x", max_tokens=1))
    watched = psutil.Process(sampler.process.pid)
    before = sum(watched.cpu_times()[:2])
    time.sleep(1.0)
    assert sum(watched.cpu_times()[:2]) - before < 0.1


def test_it_ends_when_its_parent_goes_away_in_the_middle_of_an_answer(tied: Family) -> None:
    worker = SamplerProcess(tied.base)
    frame_id = worker.post(generate("on and on", max_tokens=1900, num_samples=16))
    worker.wait_until(frame_id, lambda answer: len(answer.events) > 20)
    began = time.monotonic()
    assert worker.close() == 0
    assert time.monotonic() - began < 5
