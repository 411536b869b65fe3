"""What OpenClaw says of itself inside a prompt.

Owns finding its ``Runtime:`` line; refuses to trust it. Invariant: it is only a hint, taken when nothing better is
there: what does not make a valid id is not looked at further.

Seen on the wire (2026.9): at the end of the first user message in chat, at the end of the system prompt's dynamic part
elsewhere, in every request of an agent's loop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaclaw.chat.messages import text_of

_LINE = re.compile(r"^Runtime: (?:name=[^|\n]*\| )?agent=(\S+) \| session=(\S+)(?: \| sessionId=(\S+))?", re.MULTILINE)
_CHAT = "openai.chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeLine:
    """``session_key`` is a conversation's address, ``session_id`` the stored session's own id."""

    agent: str
    session_key: str
    session_id: str | None


def find_runtime_line(dialect: str, messages: Sequence[Mapping[str, Any]]) -> RuntimeLine | None:
    """The last such line where OpenClaw writes it in this dialect."""
    roles = ("user",) if dialect == _CHAT else ("system", "developer")
    for message in messages:
        if message["role"] in roles:
            text = text_of(message.get("content"))
            found = _LINE.findall(text) if "Runtime: " in text else []
            if found:
                agent, key, session = found[-1]
                return RuntimeLine(agent=agent, session_key=key, session_id=session or None)
            if dialect == _CHAT:
                return None  # only the first one
    return None
