"""Words that an agent alone may ever see, and finding them where they do not belong."""

from __future__ import annotations

import hashlib
import re

AGENTS = tuple(f"agent-{number:02}" for number in range(20))
_CANARY = re.compile(r"\bq[a-p]{14}z\b")
_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def canary(agent: str) -> str:
    """The word of ``agent``: letters alone, so that no tokenizer, no index and no shell takes it apart."""
    digest = hashlib.sha256(f"canary of {agent}".encode()).hexdigest()[:14]
    return f"q{digest.translate(_LETTERS)}z"


WHOSE = {canary(agent): agent for agent in AGENTS}


def whose_are_in(said: object) -> set[str]:
    """The agents whose canaries are in ``said`` or in what it prints as."""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said if isinstance(said, str) else repr(said)
    return {WHOSE[word] for word in _CANARY.findall(text)}
