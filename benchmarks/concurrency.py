"""Hundreds of samples at once, through the real SDK, and whether others still get through.

    python -m benchmarks.concurrency [--samples 512] [--streams 64]

The tiny model, one server, and this process's clients: N Tinker samples submitted together by one SDK client, then
streams on the OpenAI endpoint. Meanwhile another client sends heartbeats, one after the other, and another reads a
checkpoint list (the database), from a process of their own; their delays are what is measured. All of it shares the
machine's cores with the sampler, so milliseconds say little on a small machine; errors and the ratio to the idle do.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
import tinker

from tests.fakes.tiny_model import make_tiny_model
from tests.fakes.training_server import API_KEY, TrainingServer, training_server

HEADERS = {"X-API-Key": API_KEY}
TOKENS = 64
PROMPT = 512


@dataclass(slots=True)
class Probe:
    """Calls one route again and again, and remembers how long each answer took."""

    method: str
    path: str
    body: dict[str, str] | None = None
    delays_s: list[float] = field(default_factory=list)
    num_errors: int = 0

    def run(self, url: str, stop: Any) -> None:
        with httpx2.Client(base_url=url, headers=HEADERS, timeout=60) as http:
            while not stop.is_set():
                began = time.perf_counter()
                try:
                    self.num_errors += http.request(self.method, self.path, json=self.body).status_code != 200
                except httpx2.HTTPError:
                    self.num_errors += 1
                self.delays_s.append(time.perf_counter() - began)
                stop.wait(0.05)

    def __str__(self) -> str:
        ordered = sorted(self.delays_s)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        return (
            f"{self.path:<27}{len(ordered):5} calls, p50 {statistics.median(ordered) * 1e3:6.1f} ms, "
            f"p99 {p99 * 1e3:6.1f} ms, longest {ordered[-1] * 1e3:6.1f} ms, {self.num_errors} errors"
        )


def probe(url: str, session_id: str, stop: Any, lines: Any) -> None:
    """The body of the process that asks."""
    beat = {"session_id": session_id, "type": "session_heartbeat"}
    probes = [
        Probe("POST", "/api/v1/session_heartbeat", beat),
        Probe("GET", "/api/v1/checkpoints"),
        Probe("GET", "/healthz"),
    ]
    threads = [threading.Thread(target=each.run, args=(url, stop)) for each in probes]
    for thread in threads:
        thread.start()
    lines.put("ready")
    for thread in threads:
        thread.join()
    lines.put("\n".join(f"  {each}" for each in probes))


def main() -> None:
    options = _options()
    os.environ["TINKER_TELEMETRY"] = "0"
    logging.getLogger("tinker").setLevel(logging.ERROR)  # it tells of every poll that came back without a result
    with tempfile.TemporaryDirectory() as scratch:
        model = make_tiny_model(Path(scratch) / "tiny")
        with training_server(model, Path(scratch) / "data", max_queued=options.samples + options.streams) as server:
            service = tinker.ServiceClient(base_url=server.url, api_key=f"tml-{API_KEY}")
            sampler = service.create_sampling_client(base_model="tiny").result()
            session_id = service.holder.get_session_id()
            print(f"the tiny model; prompts of {PROMPT} tokens, answers of {TOKENS}\n")
            with probed(server, session_id, "idle"):
                time.sleep(3)
            with probed(server, session_id, f"{options.samples} Tinker samples at once"):
                _sample(sampler, options.samples)
            with probed(server, session_id, f"{options.streams} streams on the OpenAI endpoint"):
                _stream(server.url, options.streams)
            service.close("success").result()


@contextmanager
def probed(server: TrainingServer, session_id: str, title: str) -> Iterator[None]:
    """Print what other clients, and the memory, saw of the block."""
    processes = multiprocessing.get_context("spawn")
    stop, lines = processes.Event(), processes.Queue()
    other = processes.Process(target=probe, args=(server.url, session_id, stop, lines))
    other.start()
    lines.get()
    print(title)
    began = time.perf_counter()
    try:
        yield
    finally:
        took = time.perf_counter() - began
        stop.set()
        print(lines.get())
        other.join()
    api = psutil.Process(server.process.pid)
    sizes = {"api": api, **{child.cmdline()[-1]: child for child in api.children()}}
    memory = ", ".join(f"{name} {process.memory_info().rss / 2**20:.0f} MiB" for name, process in sizes.items())
    print(f"  took {took:.1f} s; resident: {memory}\n")


def _sample(sampler: tinker.SamplingClient, number: int) -> None:
    asked = tinker.SamplingParams(max_tokens=TOKENS, temperature=1.0, stop=[])
    prompts = [tinker.ModelInput.from_ints([(7 * n + k) % 250 for k in range(PROMPT)]) for n in range(number)]
    began = time.perf_counter()
    futures = [sampler.sample(prompt, num_samples=1, sampling_params=asked) for prompt in prompts]
    lengths, errors = [], 0
    for future in futures:
        try:
            lengths.append(len(future.result().sequences[0].tokens))
        except tinker.TinkerError:
            errors += 1
    rate = sum(lengths) / (time.perf_counter() - began)
    print(f"  {len(lengths)} answers of {min(lengths)}-{max(lengths)} tokens, {errors} errors; {rate:.0f} tokens/s")


def _stream(url: str, number: int) -> None:
    first_s: list[float] = []
    gaps_s: list[float] = []
    errors: list[str] = []

    def one(index: int) -> None:
        body = {
            "model": "tiny", "stream": True, "max_tokens": TOKENS,
            "messages": [{"role": "user", "content": f"{index} " * (PROMPT // 4)}],
        }  # fmt: skip
        began = last = time.perf_counter()
        try:
            with httpx2.stream("POST", f"{url}/v1/chat/completions", json=body, headers=HEADERS, timeout=120) as answer:
                for line in answer.iter_lines():
                    if not line.startswith("data: ") or "[DONE]" in line:
                        continue
                    now = time.perf_counter()
                    (gaps_s if last != began else first_s).append(now - last)
                    last = now
                    if '"error"' in line:
                        errors.append(line)
        except httpx2.HTTPError as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=one, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(
        f"  first event p50 {statistics.median(first_s):.2f} s; gap p50 {statistics.median(gaps_s) * 1e3:.1f} ms, "
        f"longest {max(gaps_s) * 1e3:.0f} ms; {len(errors)} errors"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--streams", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    main()
