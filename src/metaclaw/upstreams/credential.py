"""One credential of one upstream: whether to ask it now.

Owns its cooldown and its counts; refuses to know the others. Invariant: an attempt that somebody cancelled changes
nothing but the number of requests.

Providers limit how often a model may be asked, not a key: what is refused for one model says nothing of the others. An
agent program that goes on with another model must get through.
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
_MAX_MODELS = 64  # whose limits are remembered; clients name them
_FORGOTTEN_AFTER_S = 3600.0

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


@dataclass(slots=True, kw_only=True)
class Standing:
    """What is known against a credential, for one model or for all."""

    cooling_until: float = 0.0
    left_alone_until: float = 0.0
    num_in_a_row: int = 0
    last: Kind | None = None
    error: UpstreamError | None = None

    def readiness(self, now: float) -> Readiness:
        if now < self.cooling_until:
            return "cooling"
        return "half_open" if self.last else "ready"

    def fail(self, kind: Kind, error: UpstreamError, now: float) -> bool:
        """Take note of a failure; whether it begins a cooldown: turns that were sent together fail together."""
        is_another = self.readiness(now) != "cooling" or kind is not self.last
        if is_another:
            self.num_in_a_row = self.num_in_a_row + 1 if self.last else 1
        self.last, self.error = kind, error
        self.cooling_until = now + cooldown_s(kind, self.num_in_a_row, error.retry_after_s)
        if kind.is_hard:
            wish_s = _PROBE_EVERY_S if error.retry_after_s is None or kind.is_of_key else error.retry_after_s
            self.left_alone_until = now + min(wish_s, _MAX_LEFT_ALONE_S)
        return is_another


class Credential:
    """A client with its key, and how it fared."""

    def __init__(self, client: ModelClient, label: str, clock: Callable[[], float]) -> None:
        self.client = client
        self.label = label
        self._clock = clock
        self._whole = Standing()
        self._models: dict[str, Standing] = {}  # that were asked too often
        self._num_probes = 0
        self._num_requests = 0
        self._num_cooldowns = 0
        self._failures: Counter[str] = Counter()

    @property
    def is_well(self) -> bool:
        """Nothing is known against it, whatever model is asked for: no other is better."""
        return self._whole.last is None and not self._models

    def rank(self, model: str) -> int:
        """0: ask it. 1 and 2: only when there is no better one; 2 wants to be left alone."""
        standing = self._standing(model)
        readiness = standing.readiness(self._clock())
        if readiness == "ready" or (readiness == "half_open" and not self._num_probes):
            return 0
        return 2 if standing.last and standing.last.is_hard else 1

    def available_in_s(self, model: str) -> float:
        """How long it must be left alone, even when there is no other."""
        return max(0.0, self._standing(model).left_alone_until - self._clock())

    def cooldown_left_s(self, model: str) -> float:
        return max(0.0, self._standing(model).cooling_until - self._clock())

    def last_error(self, model: str) -> UpstreamError | None:
        """Why it is not ready."""
        return self._standing(model).error

    def begin(self, model: str) -> bool:
        """Count an attempt; whether it is a probe, of which the end is told, however it ended."""
        self._num_requests += 1
        is_probe = not self.is_well and self._standing(model).last is not None
        self._num_probes += is_probe
        return is_probe

    def end_probe(self) -> None:
        """A probe is over."""
        self._num_probes -= 1

    def succeed(self, model: str) -> None:
        if not self.is_well:
            self._whole = Standing()
            long_ago = self._clock() - _FORGOTTEN_AFTER_S
            self._models = {
                name: limit for name, limit in self._models.items() if name != model and limit.cooling_until > long_ago
            }

    def fail(self, model: str, error: UpstreamError) -> None:
        """Take note of a failure before the first byte."""
        kind = kind_of(error)
        self._failures[kind] += 1
        if kind is Kind.REQUEST:  # says nothing about the credential, but that it answers
            return
        standing = self._limit_of(model) if kind is Kind.RATE_LIMIT else self._whole
        self._num_cooldowns += standing.fail(kind, error, self._clock())

    def state(self) -> CredentialState:
        """For the model that fares worst at present."""
        now = self._clock()
        worst = max((self._whole, *self._models.values()), key=lambda it: it.cooling_until)
        worst = worst if worst.cooling_until > now else self._whole
        return CredentialState(
            upstream=self.client.name,
            credential=self.label,
            state=worst.readiness(now),
            cooldown_left_s=max(0.0, worst.cooling_until - now),
            num_cooldowns=self._num_cooldowns,
            num_requests=self._num_requests,
            failures=dict(self._failures),
        )

    def _standing(self, model: str) -> Standing:
        limit = self._models.get(model)
        if limit is None or self._whole.last is None:
            return limit or self._whole
        now = self._clock()
        return max(self._whole, limit, key=lambda it: (max(now, it.left_alone_until), max(now, it.cooling_until)))

    def _limit_of(self, model: str) -> Standing:
        if len(self._models) >= _MAX_MODELS and model not in self._models:
            del self._models[min(self._models, key=lambda name: self._models[name].cooling_until)]
        return self._models.setdefault(model, Standing())
