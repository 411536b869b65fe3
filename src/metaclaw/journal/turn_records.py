"""What is recorded of a turn.

Owns the plain data that goes into and comes out of ``turns.db``; refuses to know SQL. Invariant: token arrays are
bytes from end to end (little-endian int32 and float32), so nothing is converted on the way to training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metaclaw.chat.messages import JsonObject, Message
from metaclaw.chat.usage import TokenCounts
from metaclaw.fixed import fixed

TurnKind = Literal["main", "side"]
EndState = Literal["done", "failed", "cut"]
TurnState = Literal["open", "done", "failed", "cut"]
Span = tuple[str, int, int]

ItemKind = Literal["skill", "memory"]
Outcome = Literal["recalled", "present", "number", "budget", "threshold"]

POLICY = "policy"  # the name of the upstream that is our own policy
MEMORY_ITEM = "memory:"  # what the name of a memory begins with among what was recalled; those of skills have no colon


def exchange_key(exchange: str) -> str:
    """What the ids of all exchanges about one message in one place begin with; empty when the id has no such part.

    The same prompt run again and again, several samples of it, a regenerated answer: exchanges of their own with one
    key. None of them is a follow-up of another.
    """
    key, dash, _ = exchange.rpartition("-")
    return key + dash


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What was thought of recalling a skill (by its name) or a memory (by its id).

    Left out was what is ``present`` in the request already, what came after the greatest ``number`` of its kind, what
    the ``budget`` had no room for, and what fell short of the ``threshold``.
    """

    kind: ItemKind
    item: str
    score: float
    outcome: Outcome


@fixed
class NewTurn:
    """A turn before its upstream is called. ``messages`` are those of the client, without what was recalled.

    A turn that ``continues`` an answer (the identity of it) belongs to the exchange which that answer was given in;
    ``exchange`` is the id when there is none, or when the turn begins one.
    """

    id: str
    agent: str
    session: str
    exchange: str
    kind: TurnKind
    dialect: str
    model: str
    upstream: str
    request: str  # JSON: the body without its messages
    messages: tuple[Message, ...]
    recalled: tuple[str, ...] = ()
    weighed: tuple[Weighed, ...] = ()
    continues: bytes | None = None
    user: str | None = None
    workspace: str | None = None
    memory_scope: str | None = None
    access_key: str | None = None  # the name of the key that it came with
    received_at: float | None = None
    recall_s: float | None = None
    opened_at: float


@fixed
class RawAnswer:
    """An answer as the model sent it: ``body`` is JSON or server-sent events of ``dialect``."""

    dialect: str
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySample:
    """What the policy's sampler saw and drew in one turn. ``version`` 0 is the base model."""

    agent: str
    version: int
    model: str
    prompt_tokens: bytes  # int32
    tokens: bytes  # int32
    logprobs: bytes  # float32, as sampled
    logprobs_full: bytes  # float32, temperature 1, full vocabulary
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    stop_reason: str
    spans: tuple[Span, ...]
    renderer: str
    untrainable: str | None = None  # why it must not be trained on


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an answer cost, and the price that it was reckoned with."""

    usd: float
    price: JsonObject


@fixed
class TurnEnd:
    """How a turn ended. ``upstream`` is given when another one answered than the turn was opened for.

    ``queue_s`` is what passed between the request and the first call of an upstream, without recall; ``wait_s`` from
    there to the first byte; ``attempts`` are the upstreams that were tried; ``other_answers`` are those of n beyond
    the first.
    """

    state: EndState
    closed_at: float
    answer: Message | None = None
    finish_reason: str | None = None
    status: int | None = None
    error: str | None = None
    usage: JsonObject | None = None
    first_byte_at: float | None = None
    upstream: str | None = None
    sample: PolicySample | None = None
    queue_s: float | None = None
    wait_s: float | None = None
    tokens: TokenCounts | None = None
    cost: Cost | None = None
    attempts: tuple[JsonObject, ...] = ()
    num_dropped: int = 0  # messages that were left out for the context limit
    other_answers: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallBlock:
    """What was recalled for one human message; an empty text when nothing fitted.

    ``spans`` says of each item where in ``text`` it is; older blocks have none. ``turn`` recorded the block.
    """

    text: str
    items: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    turn: str = ""


@dataclass(frozen=True, slots=True)
class BlockKey:
    """Which human message: the hash of it and of the answer before it, counted from 0 within one history."""

    hash: bytes
    occurrence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTurn:
    """A turn as read back."""

    seq: int
    id: str
    agent: str
    session: str
    exchange: str
    kind: TurnKind
    dialect: str
    model: str
    upstream: str
    request: JsonObject
    head: bytes | None
    recalled: tuple[str, ...]
    state: TurnState
    answer: JsonObject | None
    finish_reason: str | None
    status: int | None
    error: str | None
    usage: JsonObject | None
    opened_at: float
    first_byte_at: float | None
    closed_at: float | None
    received_at: float | None = None
    recall_s: float | None = None
    queue_s: float | None = None
    wait_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    price: JsonObject | None = None
    attempts: tuple[JsonObject, ...] = ()
    num_dropped: int = 0
    other_answers: tuple[JsonObject, ...] = ()
    access_key: str | None = None
    user: str | None = None
    workspace: str | None = None
    memory_scope: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecalls:
    """What was recalled for a turn, by name."""

    seq: int
    exchange: str
    agent: str
    opened_at: float
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What a person (or a program, as ``source`` says) thought of a turn, or of a session when ``turn`` is ``None``.

    ``score`` is in [-1, 1]; without one there is a text.
    """

    id: int
    agent: str
    session: str
    turn: str | None
    exchange: str | None
    score: float | None
    text: str
    source: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedExchange:
    """The main turns of one human message, in the order of their opening.

    ``human`` is the human's own text; ``answer`` the text of the last turn that was done (empty when there is none or
    when it only called tools). ``has_later`` says that a later exchange about another message of the session exists,
    ``is_open`` that a turn still runs; ``closed_at`` is the end of the last closed turn.
    """

    id: str
    agent: str
    session: str
    turns: tuple[RecordedTurn, ...]
    human: str
    answer: str
    recalled: tuple[str, ...]
    has_later: bool
    is_open: bool
    closed_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A turn was in progress at this time, and still is where ``is_open``."""

    at: float
    is_open: bool
