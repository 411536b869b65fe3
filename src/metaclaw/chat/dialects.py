"""The dialects that clients and models speak, by name.

Owns the list; refuses to know any of them. Invariant: a name that the journal or an upstream's settings hold is here.
"""

from __future__ import annotations

from collections.abc import Mapping

from metaclaw.chat.anthropic.dialect import DIALECT as ANTHROPIC
from metaclaw.chat.completions import Completions
from metaclaw.chat.dialect import Dialect
from metaclaw.chat.embeddings import Embeddings
from metaclaw.chat.openai_chat import OpenAIChat
from metaclaw.chat.responses.dialect import ResponsesDialect

CHAT: Dialect = OpenAIChat()

RESPONSES: Dialect = ResponsesDialect()
COMPLETIONS: Dialect = Completions()
EMBEDDINGS: Dialect = Embeddings()

_ALL = (CHAT, ANTHROPIC, RESPONSES, COMPLETIONS, EMBEDDINGS)

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in _ALL}

# What chat requests can be told in, and what can be told in chat.
FROM_CHAT = frozenset({CHAT.name, ANTHROPIC.name, RESPONSES.name})
TO_CHAT = FROM_CHAT | {COMPLETIONS.name}
