"""One credential of one upstream: whether to ask it now.

Owns its cooldown and its counts; refuses to know the others. Invariant: an attempt that somebody cancelled changes
nothing but the number of requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from metaclaw.errors import UpstreamError
from metaclaw.upstreams.failures import Kind, cooldown_s, kind_of
from metaclaw.upstreams.model_client import ModelClient

_PROBE_EVERY_S = 5.0
_MAX_LEFT_ALONE_S = 60.0

Readiness = Literal["ready", "half_open", "cooling"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialState:
    """A credential as status pages and metrics show it. ``credential`` names its setting, never the key."""

    upstream: str
    credential: str
    state: Readiness
    cooldown_left_s: float
    num_cooldowns: int
    num_requests: int
    failures: Mapping[str, int]


class Credential:
    """A client with its key, and how it fared."""

    def __init__(self, client: ModelClient, label: str, clock: Callable[[], float]) -> None:
        self.client = client
        self.label = label
        self._clock = clock
        self._cooling_until = 0.0
        self._left_alone_until = 0.0
        self._num_in_a_row = 0
        self._last: Kind | None = None
        self.last_error: UpstreamError | None = None
        self._num_probes = 0
        self._num_requests = 0
        self._num_cooldowns = 0
        self._failures: Counter[str] = Counter()

    @property
    def readiness(self) -> Readiness:
        if self._clock() < self._cooling_until:
            return "cooling"
        return "half_open" if self._last else "ready"

    @property
    def is_well(self) -> bool:
        """Nothing is known against it: no other is better."""
        return self._last is None

    @property
    def rank(self) -> int:
        """0: ask it. 1 and 2: only when there is no better one; 2 wants to be left alone."""
        if self.readiness == "ready" or (self.readiness == "half_open" and not self._num_probes):
            return 0
        return 2 if self._last and self._last.is_hard else 1

    @property
    def available_in_s(self) -> float:
        """How long it must be left alone, even when there is no other."""
        return max(0.0, self._left_alone_until - self._clock())

    @property
    def cooldown_left_s(self) -> float:
        return max(0.0, self._cooling_until - self._clock())

    def begin(self) -> Callable[[], None]:
        """Count an attempt; call what is returned when it is over, however it ended."""
        self._num_requests += 1
        if self._last is None:
            return lambda: None
        self._num_probes += 1
        return self._end_probe

    def succeed(self) -> None:
        self._cooling_until = self._left_alone_until = 0.0
        self._num_in_a_row = 0
        self._last = self.last_error = None

    def fail(self, error: UpstreamError) -> None:
        """Take note of a failure before the first byte."""
        kind = kind_of(error)
        self._failures[kind] += 1
        if kind is Kind.REQUEST:  # says nothing about the credential, but that it answers
            return
        now, was_cooling = self._clock(), self.readiness == "cooling"
        if not was_cooling or kind is not self._last:  # turns that were sent together fail together, and count once
            self._num_in_a_row = self._num_in_a_row + 1 if self._last else 1
            self._num_cooldowns += 1
        self._last, self.last_error = kind, error
        self._cooling_until = now + cooldown_s(kind, self._num_in_a_row, error.retry_after_s)
        if kind.is_hard:
            wish_s = _PROBE_EVERY_S if error.retry_after_s is None or kind.is_of_key else error.retry_after_s
            self._left_alone_until = now + min(wish_s, _MAX_LEFT_ALONE_S)

    def state(self) -> CredentialState:
        return CredentialState(
            upstream=self.client.name,
            credential=self.label,
            state=self.readiness,
            cooldown_left_s=self.cooldown_left_s,
            num_cooldowns=self._num_cooldowns,
            num_requests=self._num_requests,
            failures=dict(self._failures),
        )

    def _end_probe(self) -> None:
        self._num_probes -= 1
