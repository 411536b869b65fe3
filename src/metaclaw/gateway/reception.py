"""From an HTTP request to a turn whose sender is known.

Owns the order: token, its limits, body, what is said to us in it, dialect, identity; refuses to know what becomes of
the turn. Invariant: nothing of a body is read before the token was, and a turn that was admitted and is not handed on
is released.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Receive, Scope

from metaclaw.chat.dialect import Dialect
from metaclaw.gateway.access import Access
from metaclaw.gateway.agent_budgets import AgentBudgets
from metaclaw.gateway.claims import Evidence
from metaclaw.gateway.control_keys import take_controls
from metaclaw.gateway.conversations import Conversations
from metaclaw.gateway.door import Door
from metaclaw.gateway.identify import Introduction
from metaclaw.gateway.open_turns import OpenTurns
from metaclaw.gateway.proxy import Incoming
from metaclaw.http.body import parse_json_object, read_body_within
from metaclaw.http.errors import Dialect as ErrorDialect

_ids = random.Random()  # seeded by the system; an id is no secret, and asking the system for each takes longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception(Door):
    """Where requests come in."""

    access: Access
    conversations: Conversations
    turns: OpenTurns
    budgets: AgentBudgets
    new_turn_id: Callable[[], str] = lambda: turn_id_at(time.time_ns())

    async def turn(
        self, scope: Scope, receive: Receive, *, dialect: Dialect, errors: ErrorDialect, path_agent: str | None
    ) -> Incoming:
        """A turn, admitted: whoever gets it must see to it that ``turns.end`` is called.

        ``path_agent`` is the agent in the path. Raises ``ClientDisconnect`` when the client leaves before its body is
        here, and ``MetaClawError`` for what is wrong with it.
        """
        headers = _headers(scope)
        principal = await self.access.authenticate(headers)
        received_at, turn_id = self.clock(), self.new_turn_id()
        self.turns.begin(turn_id, self.access.admit(principal))  # before its body: many that still come take room
        try:
            raw = await read_body_within(receive, headers, max_bytes=self.max_body_bytes, timeout_s=self.body_timeout_s)
            sent = parse_json_object(raw)
            controls, body = take_controls(sent)
            if body is not sent:
                raw = json.dumps(body, separators=(",", ":")).encode()
            evidence = Evidence(
                headers=headers,
                path_agent=path_agent,
                request=dialect.parse(body),
                controls=controls,
                bound_agent=principal.agent,
            )
            sender = Introduction(evidence, turn_id=turn_id, key=principal.name, conversations=self.conversations)
            self.require_known(sender.agent)
            if (of_agent := self.budgets.admit(sender.agent)) is not None:
                self.turns.admit_again(turn_id, of_agent)
        except BaseException:
            self.turns.refuse(turn_id)
            raise
        return Incoming(
            turn_id=turn_id,
            request=evidence.request,
            raw=raw,
            sender=sender,
            headers=headers,
            errors=errors,
            receive=receive,
            received_at=received_at,
        )

    @asynccontextmanager
    async def question(self, request: Request) -> AsyncGenerator[str]:
        """The agent of a request that a model is asked for though it is no turn, held to the limits as turns are.

        Raises what a turn raises.
        """
        principal = await self.authenticate(request)
        admission = self.access.admit(principal)
        try:
            agent = await self.agent(request)
            if (of_agent := self.budgets.admit(agent)) is not None:
                admission = admission.with_another(of_agent)
            yield agent
        finally:
            admission.release()


def turn_id_at(now_ns: int) -> str:
    """A new id of a turn that begins at ``now_ns`` since 1970: later ones sort behind, so that the rows of a turn go to
    the ends of the journal's indexes, and not onto a page at random in each.
    """
    return f"turn-{now_ns // 1_000_000:012x}{_ids.getrandbits(80):020x}"


def _headers(scope: Scope) -> Mapping[str, str]:
    """By their names in lower case; the first of a name counts."""
    # Starlette's own mapping goes through all of them at every question, and a turn asks a dozen.
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(headers)}
