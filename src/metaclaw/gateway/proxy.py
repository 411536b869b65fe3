"""One turn: recall, record, ask, pass on, record.

Owns the order of these steps and what a client sees of them; refuses to know which upstream answers and how things
are stored. Invariant: every turn that was opened is closed, whoever goes first: the client, the upstream or we.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive

from metaclaw.chat.dialect import ClientRequest, Dialect
from metaclaw.chat.dialects import DIALECTS
from metaclaw.errors import MetaClawError
from metaclaw.gateway.answer_stream import CUT, AnswerStream
from metaclaw.gateway.context_limit import dropped_messages
from metaclaw.gateway.identify import Caller
from metaclaw.gateway.passages import passage
from metaclaw.gateway.plain_answer import EVENTS, plain_answer
from metaclaw.gateway.recording import Recorder, TurnRecord
from metaclaw.gateway.routing import Outgoing, Routed, Router
from metaclaw.http.errors import Dialect as ErrorDialect
from metaclaw.http.errors import error_answer
from metaclaw.http.sse import CLIENT_CLOSED_REQUEST, ClientLeftError, ForwardingResponse, unless_client_leaves
from metaclaw.recall.candidates import About
from metaclaw.recall.recaller import Recalled, Recaller


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A checked request and whose it is. ``errors`` is the shape in which its sender knows errors."""

    turn_id: str
    request: ClientRequest
    raw: bytes
    caller: Caller
    headers: Mapping[str, str]
    errors: ErrorDialect
    receive: Receive
    received_at: float | None = None

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.request.dialect]


class Proxy:
    """Makes responses of requests. ``max_context_tokens`` 0 leaves the limit to the model."""

    def __init__(
        self, *, router: Router, recaller: Recaller | None, recorder: Recorder, max_context_tokens: int
    ) -> None:
        self._router = router
        self._recaller = recaller
        self._recorder = recorder
        self._max_context_tokens = max_context_tokens

    async def respond(self, incoming: Incoming) -> Response:
        """Answer one request."""
        clock = self._recorder.clock
        began_at = clock()
        recalled = await self._recall(incoming)
        record = self._recorder.begin(incoming.turn_id, received_at=incoming.received_at)
        headers = {"X-MetaClaw-Turn": incoming.turn_id, "X-MetaClaw-Recalled": str(len(recalled.names))}
        headers["X-MetaClaw-Session"] = incoming.caller.session
        try:
            record.open(
                incoming.request,
                incoming.raw,
                incoming.caller,
                upstream=self._router.upstream_name,
                recalled=recalled.names,
                weighed=recalled.weighed,
                recall_s=clock() - began_at,
                access_key=incoming.caller.key,
            )
            return await self._answer(incoming, self._outgoing(incoming, recalled, record, headers), record, headers)
        except MetaClawError as error:
            answer = error_answer(error, incoming.errors)
            record.close("failed", status=answer.status, error=str(error))
            response = answer.response()
            response.headers.update(headers)
            return response
        except ClientLeftError:
            record.close("cut", status=CLIENT_CLOSED_REQUEST, error=CUT)
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        except asyncio.CancelledError:
            record.close("cut", error=CUT)
            raise
        except BaseException as error:  # a bug of ours, and no fault of the client's
            record.close("failed", error=f"{type(error).__name__} in the gateway; its log has the details")
            raise

    async def _recall(self, incoming: Incoming) -> Recalled:
        messages, caller, recaller = incoming.request.messages, incoming.caller, self._recaller
        if recaller is None or caller.kind == "side":
            return Recalled()
        about = About(
            agent=caller.agent,
            session=caller.session,
            user=caller.user,
            workspace=caller.workspace,
            memory_scope=caller.memory_scope,
        )
        return await self._recorder.path.attempt(
            "recall",
            lambda: recaller.recall(
                messages,
                about=about,
                turn_id=incoming.turn_id,
                now=self._recorder.clock(),
                num_bytes=len(incoming.raw),
            ),
            Recalled(),
        )

    def _outgoing(
        self, incoming: Incoming, recalled: Recalled, record: TurnRecord, headers: dict[str, str]
    ) -> Outgoing:
        request = incoming.request
        dropped: frozenset[int] = frozenset()
        if self._max_context_tokens:
            dropped = dropped_messages(
                request.messages, recalled.blocks, max_tokens=self._max_context_tokens, num_bytes=len(incoming.raw)
            )
        if dropped:
            headers["X-MetaClaw-Dropped-Messages"] = str(len(dropped))
            record.num_dropped = len(dropped)
        is_edited = bool(recalled.blocks or dropped)
        return Outgoing(
            request=request,
            raw=None if is_edited else incoming.raw,
            body=incoming.dialect.edited(request, blocks=recalled.blocks, dropped=dropped)
            if is_edited
            else request.body,
            caller=incoming.caller,
            headers=incoming.headers,
            now=self._recorder.clock(),
            tell=record.attempts.append,
        )

    async def _answer(
        self, incoming: Incoming, outgoing: Outgoing, record: TurnRecord, headers: dict[str, str]
    ) -> Response:
        routed = await unless_client_leaves(incoming.receive, self._router.send(outgoing))
        record.begin_answer(routed.upstream, routed.policy)
        headers |= _policy_headers(routed)
        request, reply = incoming.request, routed.reply
        content_type = reply.content_type
        is_own = request.dialect == routed.dialect.name
        if content_type.startswith("text/event-stream") and (request.is_stream or is_own):
            way = passage(
                incoming.dialect,
                routed.dialect,
                request.body,
                content_type,
                errors=incoming.errors,
                is_policy=routed.policy is not None,
            )
            stream = AnswerStream(reply, way, record, errors=incoming.errors, on_answer=routed.on_answer)
            return ForwardingResponse(stream, content_type=content_type if is_own else EVENTS, headers=headers)
        try:
            body = await unless_client_leaves(incoming.receive, reply.read())
        finally:
            reply.close()
        plain = plain_answer(
            body,
            content_type,
            request=request,
            client=incoming.dialect,
            upstream=routed.dialect,
            name=routed.upstream,
        )
        if routed.on_answer is not None and plain.answer is not None:
            routed.on_answer(plain.answer)
        record.close("done", plain.answer, raw=plain.raw, status=200)
        return Response(plain.body, media_type=plain.content_type, headers=headers, status_code=200)


def _policy_headers(routed: Routed) -> dict[str, str]:
    headers: dict[str, str] = {}
    if routed.policy is not None:
        headers["X-MetaClaw-Policy"] = routed.policy.label
    if routed.sampling_note is not None:
        headers["X-MetaClaw-Sampling"] = routed.sampling_note
    return headers
