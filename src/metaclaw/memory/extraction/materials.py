"""The new material of a recorded exchange.

Owns what of an exchange an extractor gets to see; refuses to know what is found in it. Invariant: from the user it is
what they said since the last answer, never what a client sent again, a system prompt, or what we recalled; of what
tools and others said secrets are out before anybody else reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metaclaw.chat.humans import human_text, is_human
from metaclaw.chat.messages import JsonObject, object_or_none, text_of
from metaclaw.journal.turns import Feedback, RecordedExchange, RecordedTurn, TurnReader
from metaclaw.memory.extraction.elsewhere import ToldExchange
from metaclaw.memory.extraction.findings import Material, ToolResult
from metaclaw.memory.extraction.own_words import own_statements
from metaclaw.memory.secrets import redact, secret_spans
from metaclaw.memory.units import SCOPES, Scope

_MAX_RESULT = 2_000  # characters, from the beginning
_MAX_RESULTS = 12
_MAX_ANSWERS = 6  # that the user may have copied from
_MAX_ASKED = 4
_MAX_ASK = 120
_NOTHING = "none"  # X-Memory-Scope


def material_of(reader: TurnReader, exchange: RecordedExchange) -> Material | None:
    """What is new in ``exchange``; ``None`` when nothing of it may be remembered."""
    first, last = exchange.turns[0], exchange.turns[-1]
    messages = reader.messages(last)
    newest = _last_human(messages)
    if newest < 0 or _narrowed(last) == _NOTHING:
        return None
    workspace, scope = _kept_within(last.workspace, last.memory_scope)
    clean = _Redactor()
    return Material(
        exchange=exchange.id,
        agent=exchange.agent,
        session=exchange.session,
        turns=tuple(turn.id for turn in exchange.turns),
        said=tuple(clean.counted(text) for text in _new_texts(messages, newest)),
        said_at=first.received_at or first.opened_at,
        user=last.user,
        workspace=workspace,
        scope=scope,
        results=tuple(_results(messages[newest + 1 :], clean)),
        outcomes=tuple(clean(thought.text) for thought in reader.feedback(exchange.id) if thought.text),
        elsewhere=tuple(_elsewhere(messages)),
        recalled=tuple(reader.recalled_texts(last)),
        num_secrets=clean.number,
    )


def material_of_feedback(reader: TurnReader, feedback: Feedback) -> Material | None:
    """What a user wrote about an answer; ``None`` when nothing of it may be remembered."""
    turn = reader.turn(feedback.turn) if feedback.turn else reader.newest_turn(feedback.agent, feedback.session)
    if turn is None or _narrowed(turn) == _NOTHING:
        return None
    workspace, scope = _kept_within(turn.workspace, turn.memory_scope)
    clean = _Redactor()
    return Material(
        exchange=feedback_key(feedback),
        agent=feedback.agent,
        session=feedback.session,
        turns=(turn.id,),
        said=(clean.counted(feedback.text),),
        said_at=feedback.created_at,
        user=turn.user,
        workspace=workspace,
        scope=scope,
        recalled=tuple(reader.recalled_texts(turn)),
        num_secrets=clean.number,
    )


def feedback_key(feedback: Feedback) -> str:
    """Under which it is noted as read."""
    return f"feedback-{feedback.id}"


def material_told(told: ToldExchange) -> Material | None:
    """What is new in an exchange that passed elsewhere; ``None`` when nothing of it may be remembered."""
    message: JsonObject = {"role": "user", "content": told.prompt}
    if not is_human(message) or (told.memory_scope or "").strip() == _NOTHING:
        return None
    workspace, scope = _kept_within(told.workspace, told.memory_scope)
    clean = _Redactor()
    return Material(
        exchange=told.id,
        agent=told.agent,
        session=told.session,
        turns=(told.id,),
        said=(clean.counted(human_text(message)),),
        said_at=told.said_at,
        user=told.user,
        workspace=workspace,
        scope=scope,
        elsewhere=(told.response,),
        num_secrets=clean.number,
    )


def asked_in(reader: TurnReader, exchange: RecordedExchange) -> tuple[str, ...]:
    """The beginnings of what the user last said in the session that ``exchange`` is the end of, oldest first."""
    messages = reader.messages(exchange.turns[-1])
    elsewhere = tuple(_elsewhere(messages))
    asked: list[str] = []
    for message in filter(is_human, messages[: _last_human(messages) + 1]):
        said = human_text(message)
        spoken = own_statements(
            Material(exchange="", agent="", session="", turns=(), said=(said,), said_at=0.0, elsewhere=elsewhere)
        )
        first = next((one.text for one in spoken), "")
        if first:
            asked.append(first if len(first) <= _MAX_ASK else first[: _MAX_ASK - 1] + "\u2026")
    return tuple(asked[-_MAX_ASKED:])


@dataclass(slots=True)
class _Redactor:
    """Takes secrets out of texts, and counts them."""

    number: int = 0

    def __call__(self, text: str) -> str:
        redacted, number = redact(text)
        self.number += number
        return redacted

    def counted(self, text: str) -> str:
        """``text`` as it is, for whoever tells first which of it is a person's own."""
        self.number += len(secret_spans(text))
        return text


def _last_human(messages: Sequence[JsonObject]) -> int:
    return next((index for index in range(len(messages) - 1, -1, -1) if is_human(messages[index])), -1)


def _new_texts(messages: Sequence[JsonObject], newest: int) -> list[str]:
    # Several messages in a row, with no answer in between, are new together.
    texts: list[str] = []
    for message in reversed(messages[: newest + 1]):
        if message.get("role") in ("assistant", "tool", "function"):
            break
        if is_human(message):
            texts.append(human_text(message))
    return texts[::-1]


def _results(messages: Iterable[JsonObject], clean: _Redactor) -> Iterable[ToolResult]:
    names: dict[object, str] = {}
    results: list[ToolResult] = []
    for message in messages:
        for call in message.get("tool_calls") or ():
            names[call.get("id")] = str((object_or_none(call.get("function")) or {}).get("name") or "")
        if message.get("role") in ("tool", "function"):
            name = names.get(message.get("tool_call_id")) or str(message.get("name") or "")
            results.append(ToolResult(name=name, text=clean(text_of(message.get("content"))[:_MAX_RESULT])))
    return results[-_MAX_RESULTS:]


def _elsewhere(messages: Sequence[JsonObject]) -> Iterable[str]:
    answers: list[str] = []
    for message in messages:
        text = text_of(message.get("content"))
        if message.get("role") in ("system", "developer"):
            yield text
        elif message.get("role") == "assistant":
            answers.append(text)
    yield from answers[-_MAX_ANSWERS:]


def _narrowed(turn: RecordedTurn) -> str:
    return (turn.memory_scope or "").strip()


def _kept_within(workspace: str | None, memory_scope: str | None) -> tuple[str | None, Scope | None]:
    """The workspace, and the one scope that the client wants everything in; as recall understands the header."""
    wanted = (memory_scope or "").strip()
    for scope in SCOPES:
        if wanted == scope:
            return workspace, scope
    return workspace or wanted or None, None
