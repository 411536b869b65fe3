"""How much longer a large pass is waited for.

Owns the rule; refuses to know who waits. Invariant: a pass of few tokens has ``rl.remote_timeout_s``, one of more as
much longer as it has more. Cut into several requests, its sequences could not share the beginnings that they have in
common; and with one time for all, a slow trainer would fail at the same data for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from metaclaw.learner.datums import Datum, LikelyDatum

TOKENS_AT_ONCE = 16_384


def patience(data: Sequence[Datum | LikelyDatum]) -> float:
    """How many times ``rl.remote_timeout_s`` a pass over ``data`` may take."""
    return max(1.0, sum(datum.tokens_T.size for datum in data) / TOKENS_AT_ONCE)
