"""Which headers of a model's answer its client gets.

Owns the list; refuses to know dialects and who asks. Invariant: nothing that is not named here goes from a provider to
a client: no cookie, no name of an account, nothing of the connection or of the body, and nothing that we say ourselves.

``Retry-After`` is not here: how long a client waits is the pool's to say, which knows of other keys and models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Ids that providers ask for when something is wrong, what their SDKs act on, and how an answer was made.
_NAMES = frozenset(
    (
        b"request-id", b"x-request-id", b"apim-request-id", b"x-generation-id",
        b"x-should-retry", b"openai-processing-ms", b"openai-version", b"openai-model",
    )
)  # fmt: skip
# How much may still be asked: Anthropic's, OpenAI's and those who do as they do, and the IETF's draft.
_BEGINNINGS = (b"anthropic-ratelimit-", b"anthropic-priority-", b"x-ratelimit-", b"ratelimit")

# A server refuses to write such a value, and the whole answer with it.
_UNWRITABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# Node's servers and clients take 16 KiB of headers in all.
_MAX_VALUE_BYTES = 512
_MAX_TOLD = 48


def told_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers in ``raw`` that are for the client, by their names in lower case. It never raises."""
    told: dict[str, str] = {}
    for name, value in raw:
        low = name.lower()
        is_told = (low in _NAMES or low.startswith(_BEGINNINGS)) and len(told) < _MAX_TOLD
        if is_told and len(value) <= _MAX_VALUE_BYTES and not _UNWRITABLE.search(value):
            told[low.decode("latin-1")] = value.decode("latin-1")
    return told
