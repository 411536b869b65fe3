"""An embedder that may be down.

Owns leaving it alone for a while after it failed, and the count of that; refuses to know what is done without vectors.
Invariant: a dead endpoint costs a turn its time limit once, not every turn; and each outage is said once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from metaclaw.errors import UpstreamError
from metaclaw.retrieval.embedder import Embedder, Kind

if TYPE_CHECKING:
    from metaclaw.retrieval.embedder import Vectors

_FIRST_REST_S, _LONGEST_REST_S = 15.0, 300.0
_log = logging.getLogger(__name__)


class Breaker:
    """Asks an embedder, unless it failed a moment ago."""

    def __init__(self, embedder: Embedder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.embedder = embedder
        self.clock = clock
        self._rest_until = 0.0
        self._rest_s = 0.0
        self.num_failures = 0
        self.num_without = 0

    @property
    def name(self) -> str:
        return self.embedder.name

    @property
    def is_resting(self) -> bool:
        """Whether it failed a moment ago and is not asked now."""
        return self._rest_s > 0 and self.clock() < self._rest_until

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> Vectors | None:
        """The vectors, or ``None`` when there are none to be had now: go on by words alone."""
        if self.is_resting:
            self.num_without += 1
            return None
        was_down = self._rest_s > 0
        if was_down:
            self._rest_until = self.clock() + self._rest_s  # one tries, the others do not wait for it
        try:
            vectors = await self.embedder.embed(texts, kind=kind)
        except UpstreamError as error:
            self.num_failures += 1
            self.num_without += 1
            self._rest_s = min(2 * self._rest_s or _FIRST_REST_S, _LONGEST_REST_S)
            self._rest_until = self.clock() + self._rest_s
            if not was_down:
                _log.warning("retrieval goes by words alone until the embeddings answer again: %s", error)
            return None
        self._rest_s = 0.0
        if was_down:
            _log.info("the embeddings answer again; %d requests went by words alone", self.num_without)
        return vectors
