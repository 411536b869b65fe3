"""Which exchange a request belongs to, as far as the request itself tells.

Owns the key that exchanges about one human message share, and what a tool loop goes on from; refuses to know where the
other turns are (the journal finds them). Invariant: a request that ends with the human's message begins an exchange,
every turn of the tool loop after it belongs to that exchange, and so does every turn of a run that a client names.

Limits: a loop whose answers the client rewrites is told from another one that began with the very same words, after the
same answer, only by which was last; a request within a loop that is sent again stays in its exchange, whose last answer
is then the one that is judged. A trace may cover many human messages, or a single request (programs under tracing send
a new one with each, unless somebody opened a span around them); a run is taken at its word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from metaclaw.chat.humans import human_identity, is_human
from metaclaw.chat.messages import answer_identity
from metaclaw.fixed import fixed

_OF_A_LOOP = ("assistant", "tool", "function")
UNSEEN = b""  # the identity of an answer that the provider keeps, and the client does not send again
_SHARED = "run"  # behind the key, where others have a part of the turn's id


@fixed
class ExchangeClaim:
    """Where a turn belongs.

    ``key`` is what the ids of all exchanges about this message begin with. ``continues`` is the identity of the answer
    that the turn goes on from, ``None`` when it begins an exchange, ``UNSEEN`` when the request does not show it.
    ``is_shared``: all turns of the key are one, whatever they continue.
    """

    key: str
    continues: bytes | None = None
    is_shared: bool = False

    def first_id(self, turn_id: str) -> str:
        """The id of the exchange that this turn is in, unless it continues another."""
        # Of the id's end: it begins with the time, which turns at one moment share.
        return self.key + (_SHARED if self.is_shared else turn_id.removeprefix("turn-")[-12:])


def claim_exchange(
    agent: str,
    session: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    run: str | None = None,
    trace: str | None = None,
) -> ExchangeClaim:
    """Where a request with these messages belongs. ``run`` and ``trace`` are the client's ids of what it is doing."""
    digest = hashlib.sha256(f"{agent}\n{session}\n".encode())
    if run is not None:
        digest.update(b"run\n" + run.encode())
        return ExchangeClaim(key=_key(digest.digest()), is_shared=True)
    human = next((index for index in range(len(messages) - 1, -1, -1) if is_human(messages[index])), -1)
    if human >= 0:
        digest.update(human_identity(messages[human]))
    continues = _continued_answer(messages[human + 1 :], human < 0)
    if trace is not None:
        digest.update(b"trace\n" + trace.encode())
        return ExchangeClaim(key=_key(digest.digest()), continues=continues, is_shared=True)
    # Not by the place in the history: clients with a window drop old messages in the middle of a loop.
    if before := _last_answer(messages[: max(human, 0)]):
        digest.update(answer_identity(before))
    return ExchangeClaim(key=_key(digest.digest()), continues=continues)


def is_shared(exchange: str) -> bool:
    """Whether this is the id of all turns that its key is made for."""
    return exchange.endswith(f"-{_SHARED}")


def _key(digest: bytes) -> str:
    return f"ex-{digest.hex()[:32]}-"


def _continued_answer(after_human: Sequence[Mapping[str, Any]], is_all: bool) -> bytes | None:
    if not any(message["role"] in _OF_A_LOOP for message in after_human):
        return None
    answer = _last_answer(after_human)
    return UNSEEN if answer is None and is_all else answer_identity(answer or {})


def _last_answer(messages: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((message for message in reversed(messages) if message["role"] == "assistant"), None)
