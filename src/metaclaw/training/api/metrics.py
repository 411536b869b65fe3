"""What the training server counts, for Prometheus.

Owns the names of the metrics and how they are gathered from what passes through the API process; refuses to know HTTP
authentication and what a command computes. Invariant: a label is one of a few words known beforehand (the pattern of a
route, an operation, a worker), never a tenant, a model, a path or a text; and counting never fails a request.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from metaclaw.http.counting import Told
from metaclaw.training.commands import Command, ForwardBackward, Generate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_GAPS_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
_PASSES_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_UNKNOWN_ROUTE = "unknown"


class WorkerState(Protocol):
    """What is read of a worker when somebody looks."""

    name: Any
    state: Any
    generation: int

    @property
    def pid(self) -> int | None: ...


class Metrics:
    """One server's counters, in a registry of their own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "metaclaw_requests", "HTTP requests answered.", ("route", "method", "status"), registry=registry
        )
        self.jobs = Counter(
            "metaclaw_jobs", "Commands that a worker finished, by how they ended.", ("op", "outcome"), registry=registry
        )
        self.sampling_open = Gauge("metaclaw_sampling_open", "Generations sent to the sampler.", registry=registry)
        self.sampling_waiting = Gauge(
            "metaclaw_sampling_waiting", "Of those, generations without a first token.", registry=registry
        )
        self.tokens = Counter("metaclaw_sampling_tokens", "Prompt and completion tokens.", ("kind",), registry=registry)
        self.training_tokens = Counter(
            "metaclaw_training_tokens", "Tokens that went through a pass.", ("op",), registry=registry
        )
        self.training_waiting_tokens = Gauge(
            "metaclaw_training_waiting_tokens",
            "Tokens that the engine has yet to answer.",
            registry=registry,
        )
        self.first_token_s = Histogram(
            "metaclaw_first_token_seconds", "From a generation's command to its first token.", buckets=_PASSES_S,
            registry=registry,
        )  # fmt: skip
        self.token_gap_s = Histogram(
            "metaclaw_token_gap_seconds", "Between tokens of one answer, as they reach the API.", buckets=_GAPS_S,
            registry=registry,
        )  # fmt: skip
        self.job_s = Histogram(
            "metaclaw_job_seconds", "From a command to its answer.", ("op",), buckets=_PASSES_S, registry=registry
        )

    def text(self) -> bytes:
        """The page of ``/metrics``."""
        return generate_latest(self.registry)

    def add_workers(self, workers: Sequence[WorkerState]) -> None:
        """Show the state of ``workers`` from now on."""
        self.registry.register(_Workers(workers))

    def add_gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show what ``read`` returns at the moment somebody looks."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def watch(self, command: Command) -> CommandWatch:
        """Count ``command``, which is being sent to a worker."""
        if isinstance(command, Generate):
            return _GenerationWatch(self, command)
        return _PassWatch(self, command) if isinstance(command, ForwardBackward) else CommandWatch(self, command)


class CommandWatch:
    """What is counted of one command: ``frame`` for each answer, ``close`` once, however it ended."""

    def __init__(self, metrics: Metrics, command: Command) -> None:
        self._metrics = metrics
        self._command = command
        self._began_at = metrics.clock()
        self._outcome = "abandoned"  # the client left, or the worker died

    def frame(self, frame: dict[str, Any]) -> None:
        """Look at a frame that the worker answered with."""
        if "ok" in frame:
            self._outcome = "ok"
        elif "error" in frame:
            self._outcome = "user_error" if frame["error"].get("caller_fault") else "server_error"

    def close(self) -> None:
        """The command is over."""
        self._metrics.jobs.labels(self._command.op, self._outcome).inc()
        self._metrics.job_s.labels(self._command.op).observe(self._metrics.clock() - self._began_at)


class _PassWatch(CommandWatch):
    def __init__(self, metrics: Metrics, command: ForwardBackward) -> None:
        super().__init__(metrics, command)
        self._num_tokens = sum(len(datum.tokens) for datum in command.data)
        self._op = "forward" if command.forward_only else "forward_backward"
        metrics.training_waiting_tokens.inc(self._num_tokens)

    def close(self) -> None:
        super().close()
        self._metrics.training_waiting_tokens.dec(self._num_tokens)
        if self._outcome == "ok":
            self._metrics.training_tokens.labels(self._op).inc(self._num_tokens)


class _GenerationWatch(CommandWatch):
    def __init__(self, metrics: Metrics, command: Generate) -> None:
        super().__init__(metrics, command)
        self._last_at: dict[int, float] = {}  # by sample
        self._num_cached = 0
        metrics.tokens.labels("prompt").inc(len(command.prompt))
        metrics.sampling_open.inc()
        metrics.sampling_waiting.inc()

    def frame(self, frame: dict[str, Any]) -> None:
        super().frame(frame)
        if frame.get("event") == "finished":
            self._num_cached = max(self._num_cached, frame.get("cached_tokens", 0))  # each sample tells of one prompt
        if frame.get("event") != "tokens":
            return
        now, sample = self._metrics.clock(), frame["sample"]
        if not self._last_at:
            self._metrics.first_token_s.observe(now - self._began_at)
            self._metrics.sampling_waiting.dec()
        elif sample in self._last_at:
            self._metrics.token_gap_s.observe(now - self._last_at[sample])
        self._last_at[sample] = now
        self._metrics.tokens.labels("completion").inc(len(frame["tokens"]))

    def close(self) -> None:
        super().close()
        self._metrics.tokens.labels("cached").inc(self._num_cached)
        self._metrics.sampling_open.dec()
        if not self._last_at:
            self._metrics.sampling_waiting.dec()


def count_request(metrics: Metrics) -> Told:
    """For ``CountRequests``: counts by the pattern of a route."""

    def told(scope: Scope, method: str, status: str) -> None:
        metrics.requests.labels(_route(scope), method, status).inc()

    return told


def _route(scope: Scope) -> str:
    # The routers below write their match into the scope; without one, the path is whatever somebody typed.
    pattern = getattr(scope.get("route"), "path", None)
    return _UNKNOWN_ROUTE if pattern is None else scope.get("root_path", "") + pattern


class _Workers(Collector):
    """The workers' states, read at the moment of the question."""

    def __init__(self, workers: Sequence[WorkerState]) -> None:
        self._workers = workers

    def collect(self) -> Iterable[Metric]:
        is_ready = GaugeMetricFamily("metaclaw_worker_ready", "Whether the worker serves.", labels=["worker"])
        starts = GaugeMetricFamily(
            "metaclaw_worker_starts", "Processes started so far; more than 1 are restarts.", labels=["worker"]
        )
        resident = GaugeMetricFamily(
            "metaclaw_resident_bytes", "Resident memory, shared pages included.", labels=["process"]
        )
        for worker in self._workers:
            is_ready.add_metric([worker.name], float(worker.state == "ready"))
            starts.add_metric([worker.name], worker.generation)
            resident.add_metric([worker.name], _resident_bytes(worker.pid))
        resident.add_metric(["api"], _resident_bytes(os.getpid()))
        return [is_ready, starts, resident]


def _resident_bytes(pid: int | None) -> float:
    """What the kernel says; 0 where it does not (other systems than Linux) or when the process is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0.0
    return float(int(pages) * os.sysconf("SC_PAGE_SIZE"))
