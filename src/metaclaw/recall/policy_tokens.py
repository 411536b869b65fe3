"""How many tokens recalled text takes in the policy's own tokenizer.

Owns asking the training server, remembering what it said, and leaving it alone after it did not answer; refuses to know
what is recalled. Invariant: nobody waits longer than their patience, a text is counted once, and without a count there
is an estimate.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from metaclaw.errors import UpstreamError
from metaclaw.recall.sizes import ESTIMATED, CountedSizes, Sizes

PATIENCE_S = 0.25
_REST_S = 60.0
_NUM_REMEMBERED = 4096

_log = logging.getLogger(__name__)


class Counts(Protocol):
    """The slice of the training server's client that is used. Raises ``UpstreamError``."""

    async def token_counts(self, texts: Sequence[str]) -> list[int]: ...


class PolicyTokens:
    """Sizes for the agents that ``has_policy``."""

    def __init__(
        self,
        server: Counts,
        has_policy: Callable[[str], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float | None = None,
    ) -> None:
        self._server = server
        self._has_policy = has_policy
        self._clock = clock
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._rest_until: float | None = None

    async def sizes(self, agent: str, texts: Sequence[str]) -> Sizes:
        """Those of ``texts`` for the model that answers ``agent``."""
        if not self._has_policy(agent):
            return ESTIMATED
        known = {text: self._counts[text] for text in texts if text in self._counts}
        unknown = list(dict.fromkeys(text for text in texts if text not in known))
        if unknown:
            counted = await self._ask(unknown)
            if counted is None:
                return ESTIMATED
            known |= dict(zip(unknown, counted, strict=True))
        for text in known:
            self._counts[text] = known[text]
            self._counts.move_to_end(text)
        while len(self._counts) > _NUM_REMEMBERED:
            self._counts.popitem(last=False)
        return CountedSizes(known)

    async def _ask(self, texts: Sequence[str]) -> list[int] | None:
        if self._rest_until is not None and self._clock() < self._rest_until:
            return None
        was_away = self._rest_until is not None
        if was_away:
            self._rest_until = self._clock() + _REST_S  # one tries, the others do not wait for it
        try:
            async with asyncio.timeout(self._patience_s):
                counts = await self._server.token_counts(texts)
        except (UpstreamError, TimeoutError) as error:
            self._rest_until = self._clock() + _REST_S
            if not was_away:
                why = error if str(error) else f"no answer within {self._patience_s:g} s"
                _log.info("the training server does not count what is recalled, so it is estimated: %s", why)
            return None
        self._rest_until = None
        return counts
