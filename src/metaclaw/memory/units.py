"""One thing that is remembered.

Owns its fields and what makes two of them the same; refuses to know where units are kept. Invariant: a unit says whose
it is, who said it, when, and in which turns; without that nothing is remembered.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import unicodedata
from dataclasses import dataclass
from typing import Literal, get_args

from metaclaw.errors import InvalidRequestError

Kind = Literal["episodic", "semantic", "preference", "project_state", "working_summary", "procedural"]
Scope = Literal["user", "agent", "workspace", "session"]
Source = Literal["user", "tool", "outcome", "import", "manual"]

KINDS: tuple[Kind, ...] = get_args(Kind)
SCOPES: tuple[Scope, ...] = get_args(Scope)
SOURCES: tuple[Source, ...] = get_args(Source)

MAX_TEXT = 2000  # characters: a unit is a statement, not a document


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUnit:
    """What was said, once. Times are Unix seconds; trust and confidence are 0 to 1.

    ``trust`` is how far its source may be believed, ``confidence`` how surely it was understood. ``true_from`` and
    ``true_until`` bound when it holds, where that is known. ``subject`` names what it is about ("user.city"), so that a
    later unit on it ends this one's validity; "" is never contradicted. ``standing`` is how the user wants things done
    whatever they ask, which each conversation is told.
    """

    id: str
    kind: Kind
    text: str
    agent: str
    scope: Scope
    said_at: float
    created_at: float
    user: str | None = None
    workspace: str | None = None
    session: str | None = None
    turns: tuple[str, ...] = ()
    source: Source = "user"
    trust: float = 1.0
    confidence: float = 1.0
    true_from: float | None = None
    true_until: float | None = None
    subject: str = ""
    superseded_by: str | None = None
    standing: bool = False

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InvalidRequestError("a memory needs a text", param="text")
        if len(self.text) > MAX_TEXT:
            raise InvalidRequestError(
                f"a memory of {len(self.text)} characters is too long; at most {MAX_TEXT}, one statement each",
                param="text",
            )
        for name in ("trust", "confidence"):
            value: float = getattr(self, name)
            if not 0 <= value <= 1:
                raise InvalidRequestError(f"{name} is {value}; it must be from 0 to 1", param=name)
        if self.scope != "agent" and not getattr(self, self.scope):
            raise InvalidRequestError(f"scope {self.scope} needs a {self.scope}", param=self.scope)
        if self.true_from is not None and self.true_until is not None and self.true_until < self.true_from:
            raise InvalidRequestError("true_until lies before true_from", param="true_until")


def new_id() -> str:
    """An id that no unit has."""
    return f"m-{secrets.token_hex(6)}"


def digest_of(unit: MemoryUnit) -> bytes:
    """SHA-256 over whose it is, its kind and its words: equal for what would be remembered twice.

    Words in their order and with everything small (a "not") kept: only case, width and spaces do not count.
    """
    plain = " ".join(unicodedata.normalize("NFKC", unit.text).casefold().split()).rstrip(".!。！ ")
    owner = None if unit.scope == "agent" else getattr(unit, unit.scope)
    return hashlib.sha256(json.dumps([unit.agent, unit.scope, owner, unit.kind, plain]).encode()).digest()
