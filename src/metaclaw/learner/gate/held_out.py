"""Which exchanges are kept from training, to examine new versions on.

Owns the draw; refuses to know rewards and versions. Invariant: an exchange is held out for ever or never, whoever asks;
nothing but its key and the share decides, and a larger share only adds to a smaller one.
"""

from __future__ import annotations

import hashlib

from metaclaw.journal.turn_explanation import Explanation
from metaclaw.journal.turn_records import exchange_key

HELD_OUT = "held_out"  # the name of the rule, where it is counted


def is_held_out(exchange: str, share: float) -> bool:
    """Whether ``exchange`` is among the ``share`` of all that is never trained on. Repetitions of one go together."""
    key = exchange_key(exchange) or exchange
    digest = hashlib.sha256(b"held out\n" + key.encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def is_kept_back(found: Explanation, share: float) -> bool:
    """Whether a turn has no verdict because it is held out, and not because its judge has yet to speak."""
    may_train = found.policy is not None and found.policy.untrainable is None
    return may_train and found.verdict is None and is_held_out(found.turn.exchange, share)
