"""The policy's own tokens of its earlier answers, sent along with the history.

Owns remembering what the policy drew and finding it again in a conversation; refuses to know how tokens are put into a
prompt (the training server does that, and renders the text where they do not fit). Invariant: tokens go with a message
only if the policy drew them in the same session of the same agent for an answer that says and calls the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from metaclaw.chat.messages import JsonObject, answer_identity
from metaclaw.chat.openai_chat import ChatAnswer
from metaclaw.journal.drawn_answers import DrawnAnswer

_MAX_ANSWERS = 8192
_MAX_SESSIONS = 1024


class DrawnAnswers(Protocol):
    """Where answers of earlier runs of this program are kept."""

    async def drawn_answers(self, agent: str, session: str) -> list[DrawnAnswer]:
        """The newest of them, oldest first."""
        ...


_Key = tuple[str, str, bytes]


class PolicyHistory:
    """Give it the policy's answers as they come, and the conversations that are about to be sent."""

    def __init__(self, kept: DrawnAnswers) -> None:
        self._kept = kept
        self._known: OrderedDict[_Key, tuple[str, str]] = OrderedDict()
        self._read_sessions: OrderedDict[tuple[str, str], None] = OrderedDict()

    def remember(self, agent: str, session: str, answer: ChatAnswer) -> None:
        """Note an answer that is complete. One without a policy record is nothing to remember."""
        record = answer.policy_record
        if record is None or answer.message is None:
            return
        tokens, renderer = record.get("tokens"), record.get("renderer")
        if isinstance(tokens, str) and isinstance(renderer, str):
            self._add(agent, session, DrawnAnswer(message=answer.message, tokens=tokens, renderer=renderer))

    async def with_tokens(self, messages: Sequence[JsonObject], agent: str, session: str) -> list[JsonObject]:
        """``messages`` with ``token_ids`` and ``renderer`` where the policy said them. Raises ``JournalError``."""
        if not any(message.get("role") == "assistant" for message in messages):
            return list(messages)
        await self._read(agent, session)
        return [self._with_tokens(message, agent, session) for message in messages]

    def _with_tokens(self, message: JsonObject, agent: str, session: str) -> JsonObject:
        if message.get("role") != "assistant" or "token_ids" in message:
            return message
        found = self._known.get((agent, session, answer_identity(message)))
        return message if found is None else {**message, "token_ids": found[0], "renderer": found[1]}

    async def _read(self, agent: str, session: str) -> None:
        # What was drawn before this program started; what came since is known.
        if (agent, session) in self._read_sessions:
            return
        for answer in await self._kept.drawn_answers(agent, session):
            self._add(agent, session, answer, is_newest=False)
        self._read_sessions[agent, session] = None
        while len(self._read_sessions) > _MAX_SESSIONS:
            self._read_sessions.popitem(last=False)

    def _add(self, agent: str, session: str, answer: DrawnAnswer, *, is_newest: bool = True) -> None:
        key = (agent, session, answer_identity(answer.message))
        if not is_newest and key in self._known:
            return
        self._known[key] = (answer.tokens, answer.renderer)
        self._known.move_to_end(key)
        while len(self._known) > _MAX_ANSWERS:
            self._known.popitem(last=False)
