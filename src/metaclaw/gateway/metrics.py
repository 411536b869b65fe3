"""What the gateway counts, for Prometheus.

Owns the names of the metrics and how they are gathered; refuses to know HTTP authentication and what a turn says.
Invariant: a label is one of a few words known beforehand (the pattern of a route, a state, a configured upstream),
never a prompt, a model, an agent or a path that a client wrote; and counting never fails a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from metaclaw.errors import JournalError
from metaclaw.gateway.recording import ClosedTurn, Recorder
from metaclaw.gateway.tallies import Tally, Times
from metaclaw.http.counting import Told
from metaclaw.journal.learning_costs import spent_by_purpose
from metaclaw.journal.spooled_turns import TurnSettled
from metaclaw.retrieval.breaker import Breaker
from metaclaw.upstreams.pool import UpstreamPool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ADDED_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0)
_ANSWER_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_UNKNOWN_ROUTE = "unknown"


class Failing(Protocol):
    """What counts its failures."""

    num_failures: int


def _no_upstreams() -> UpstreamPool | None:
    return None


class GatewayMetrics:
    """One gateway's counters, in a registry of their own."""

    def __init__(
        self,
        recorder: Recorder,
        upstreams: Callable[[], UpstreamPool | None] = _no_upstreams,
        embedder: Breaker | None = None,
        *,
        memories: Failing | None = None,
        learning_db: Path | None = None,
    ) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Tally("metaclaw_gateway_requests", "HTTP requests answered.", ("route", "method", "status"))
        self._turns = Tally("metaclaw_turns", "Turns, by how they ended and who answered.", ("state", "upstream"))
        self._added_s = Times("metaclaw_added_seconds", "What we do with a request before a model is asked.", _ADDED_S)
        self._first_byte_s = Times(
            "metaclaw_first_byte_seconds", "From a request to the first byte of its answer.", _ANSWER_S
        )
        self._turn_s = Times("metaclaw_turn_seconds", "From a request to the end of its answer.", _ANSWER_S)
        self._tokens = Tally(
            "metaclaw_tokens",
            "Tokens of recorded turns; cached ones are among the prompt's.",
            ("kind",),
            known=[("prompt",), ("completion",), ("cached",)],
        )
        self._usd = Tally("metaclaw_cost_usd", "Cost of recorded turns with a known price.", known=[()])
        self._unpriced = Tally("metaclaw_unpriced_turns", "Recorded turns with a usage and no known price.", known=[()])
        for counted in (self.requests, self._turns, self._tokens, self._usd, self._unpriced):
            registry.register(counted)
        for timed in (self._added_s, self._first_byte_s, self._turn_s):
            registry.register(timed)
        registry.register(_Recording(recorder))
        registry.register(_Upstreams(upstreams))
        if embedder is not None:
            registry.register(_Embeddings(embedder))
        if memories is not None:
            registry.register(_Memories(memories))
        if learning_db is not None:
            registry.register(_Learning(learning_db))
        recorder.on_closed.append(self._closed)
        recorder.on_settled.append(self._settled)

    def text(self) -> bytes:
        """The page of ``/metrics``."""
        return generate_latest(self.registry)

    def _closed(self, turn: ClosedTurn) -> None:
        self._turns.add(turn.state, turn.upstream)
        if turn.added_s is not None:
            self._added_s.add(turn.added_s)
        if turn.first_byte_s is not None:
            self._first_byte_s.add(turn.first_byte_s)
        self._turn_s.add(turn.total_s)

    def _settled(self, turns: Sequence[TurnSettled]) -> None:
        used = [turn.tokens for turn in turns if turn.tokens is not None]
        self._tokens.add("prompt", number=sum(tokens.prompt for tokens in used))
        self._tokens.add("completion", number=sum(tokens.completion for tokens in used))
        self._tokens.add("cached", number=sum(tokens.cached for tokens in used))
        costs = [turn.cost.usd for turn in turns if turn.cost is not None]
        self._usd.add(number=sum(costs))
        self._unpriced.add(number=len(used) - len(costs))


def count_request(patterns: Mapping[Any, str]) -> Told:
    """For ``CountRequests``: counts by the pattern of a route. ``patterns`` are those by their endpoint."""

    def told(scope: Scope, method: str, status: str) -> None:
        metrics: GatewayMetrics = scope["app"].state.deps.metrics
        metrics.requests.add(patterns.get(scope.get("endpoint"), _UNKNOWN_ROUTE), method, status)

    return told


class _Upstreams(Collector):
    """How every configured key fares, read at the moment of the question. Labels are names of settings, never a key."""

    def __init__(self, pool: Callable[[], UpstreamPool | None]) -> None:
        self._pool = pool

    def collect(self) -> Iterable[Metric]:
        labels = ["upstream", "credential"]
        is_ready = GaugeMetricFamily("metaclaw_upstream_ready", "Whether it may be asked now.", labels=labels)
        requests = CounterMetricFamily("metaclaw_upstream_requests", "Attempts at it.", labels=labels)
        failures = CounterMetricFamily(
            "metaclaw_upstream_failures", "Attempts that failed, by kind.", labels=[*labels, "kind"]
        )
        cooldowns = CounterMetricFamily(
            "metaclaw_upstream_cooldowns", "How often it was left alone for a while.", labels=labels
        )
        left_s = GaugeMetricFamily(
            "metaclaw_upstream_cooldown_seconds", "For how long it is left alone yet.", labels=labels
        )
        pool = self._pool()
        for state in pool.snapshot() if pool is not None else ():
            names = [state.upstream, state.credential]
            cooldowns.add_metric(names, state.num_cooldowns)
            left_s.add_metric(names, state.cooldown_left_s)
            is_ready.add_metric(names, float(state.state == "ready"))
            requests.add_metric(names, state.num_requests)
            for kind, number in state.failures.items():
                failures.add_metric([*names, kind], number)
        return [is_ready, requests, failures, cooldowns, left_s]


class _Embeddings(Collector):
    """How the embedder fares, and what was searched by words alone because it does not answer."""

    def __init__(self, embedder: Breaker) -> None:
        self._embedder = embedder

    def collect(self) -> Iterable[Metric]:
        embedder = self._embedder
        return [
            GaugeMetricFamily(
                "metaclaw_embeddings_up", "Whether it is asked now; 0 after it failed.", value=not embedder.is_resting
            ),
            CounterMetricFamily(
                "metaclaw_embeddings_failures", "Attempts at it that failed.", value=embedder.num_failures
            ),
            CounterMetricFamily(
                "metaclaw_embeddings_missed", "Searches that went by words alone.", value=embedder.num_without
            ),
        ]


class _Memories(Collector):
    """How the memory fares, read at the moment of the question."""

    def __init__(self, memories: Failing) -> None:
        self._memories = memories

    def collect(self) -> Iterable[Metric]:
        return [
            CounterMetricFamily(
                "metaclaw_memory_failures",
                "Times that the memory did not answer, so that nothing of it was recalled.",
                value=self._memories.num_failures,
            )
        ]


class _Learning(Collector):
    """What learning took, read from the learner's database at the moment of the question."""

    def __init__(self, learning_db: Path) -> None:
        self._learning_db = learning_db

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily("metaclaw_learning_requests", "Models asked to learn.", labels=["purpose"])
        tokens = CounterMetricFamily(
            "metaclaw_learning_tokens", "Tokens of these, as far as known.", labels=["purpose", "kind"]
        )
        usd = CounterMetricFamily(
            "metaclaw_learning_cost_usd", "Cost of these, as far as prices are known.", labels=["purpose"]
        )
        unpriced = CounterMetricFamily(
            "metaclaw_learning_unpriced", "Of these, those of unknown cost.", labels=["purpose"]
        )
        try:
            spent = spent_by_purpose(self._learning_db)
        except JournalError:
            return []  # it says nothing rather than nought
        for purpose, one in spent.items():
            requests.add_metric([purpose], one.num_asked)
            tokens.add_metric([purpose, "prompt"], one.prompt_tokens)
            tokens.add_metric([purpose, "completion"], one.completion_tokens)
            usd.add_metric([purpose], one.cost_usd)
            unpriced.add_metric([purpose], one.num_unknown_costs)
        return [requests, tokens, usd, unpriced]


class _Recording(Collector):
    """How recording fares, read at the moment of the question."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def collect(self) -> Iterable[Metric]:
        state = self._recorder.journal.state
        return [
            CounterMetricFamily(
                "metaclaw_recording_failures",
                "What could not be recorded at once, or not as it was.",
                value=self._recorder.num_failures,
            ),
            CounterMetricFamily(
                "metaclaw_recording_lost", "Records that were given up for want of room.", value=state.backlog.num_lost
            ),
            GaugeMetricFamily(
                "metaclaw_journal_up", "Whether the journal's database can be written.", value=state.trouble is None
            ),
            GaugeMetricFamily(
                "metaclaw_spool_records", "Records that wait for the database.", value=state.backlog.num_records
            ),
            GaugeMetricFamily("metaclaw_spool_bytes", "Size of these.", value=state.backlog.num_bytes),
            GaugeMetricFamily("metaclaw_turns_open", "Turns under way.", value=self._recorder.num_open),
        ]
