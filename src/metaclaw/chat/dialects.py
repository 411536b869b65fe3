"""The dialects that clients and models speak, by name.

Owns the list; refuses to know any of them. Invariant: a name that the journal or an upstream's settings hold is here.
"""

from __future__ import annotations

from collections.abc import Mapping

from metaclaw.chat.anthropic.dialect import DIALECT as ANTHROPIC
from metaclaw.chat.dialect import Dialect
from metaclaw.chat.openai_chat import OpenAIChat

CHAT: Dialect = OpenAIChat()

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (CHAT, ANTHROPIC)}
