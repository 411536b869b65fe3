"""One turn: recall, record, ask, pass on, record.

Owns the order of these steps and what a client sees of them; refuses to know which upstream answers and how things
are stored. Invariant: every turn that was opened is closed, whoever goes first: the client, the upstream or we.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Receive

from metaclaw.chat.dialect import ClientRequest, Dialect
from metaclaw.chat.dialects import DIALECTS, RESPONSES
from metaclaw.chat.responses.tools import left_out_of
from metaclaw.errors import MetaClawError, UpstreamError
from metaclaw.fixed import fixed
from metaclaw.gateway.agent_routers import RouterOf
from metaclaw.gateway.answer_stream import CUT, AnswerStream
from metaclaw.gateway.context_limit import dropped_messages
from metaclaw.gateway.identify import Caller, Sender
from metaclaw.gateway.opening import Opening
from metaclaw.gateway.outbound import Outgoing
from metaclaw.gateway.passages import passage
from metaclaw.gateway.plain_answer import EVENTS, plain_answer
from metaclaw.gateway.recording import Recorder, TurnRecord
from metaclaw.gateway.routing import Routed, Router
from metaclaw.http.errors import Dialect as ErrorDialect
from metaclaw.http.errors import error_answer
from metaclaw.http.sse import CLIENT_CLOSED_REQUEST, ClientLeftError, ForwardingResponse, unless_client_leaves
from metaclaw.http.whole import WholeResponse
from metaclaw.journal.turns import EndState
from metaclaw.recall.candidates import About
from metaclaw.recall.recaller import Recalled, Recaller

# Where the makers' SDKs look for it.
_REQUEST_ID: Mapping[ErrorDialect, str] = {
    "openai": "x-request-id",
    "anthropic": "request-id",
    "tinker": "x-request-id",
}


@fixed
class Incoming:
    """A checked request and whose it is. ``errors`` is the shape in which its sender knows errors."""

    turn_id: str
    request: ClientRequest
    raw: bytes
    sender: Sender
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
        self, *, routers: RouterOf, recaller: Recaller | None, recorder: Recorder, max_context_tokens: int
    ) -> None:
        self._routers = routers
        self._recaller = recaller
        self._recorder = recorder
        self._max_context_tokens = max_context_tokens

    async def respond(self, incoming: Incoming) -> Response:
        """Answer one request."""
        record = self._recorder.begin(incoming.turn_id, received_at=incoming.received_at)
        turn = _Turn(incoming, record, self._routers.of(incoming.sender.agent))
        # A model that has no id for its answer answers under ours: SDKs show one to whoever looks for a turn.
        headers = {"X-MetaClaw-Turn": incoming.turn_id, _REQUEST_ID[incoming.errors]: incoming.turn_id}
        try:
            try:
                return await self._answer(turn, headers)
            except MetaClawError as error:
                return await _refusal(error, turn, headers)
        except ClientLeftError:
            await turn.close("cut", status=CLIENT_CLOSED_REQUEST, error=CUT)
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        except asyncio.CancelledError:
            await turn.close("cut", error=CUT)
            raise
        except BaseException as error:  # a bug of ours, and no fault of the client's
            await turn.close("failed", error=f"{type(error).__name__} in the gateway; its log has the details")
            raise

    async def _recall(self, incoming: Incoming, caller: Caller, recaller: Recaller) -> Recalled:
        messages = incoming.request.messages
        about = About(
            agent=caller.agent,
            session=caller.session,
            user=caller.user,
            workspace=caller.workspace,
            memory_scope=caller.memory_scope,
        )

        def look() -> Coroutine[Any, Any, Recalled]:
            if caller.kind == "side":  # a compaction repeats the conversation, and the provider has that in its cache
                return recaller.attached(messages, about=about)
            return recaller.recall(
                messages,
                about=about,
                turn_id=incoming.turn_id,
                now=self._recorder.clock(),
                dropping=partial(self._dropped, incoming) if self._max_context_tokens else None,
            )

        recalled = await self._recorder.path.attempt("recall", look, Recalled())
        if recalled.trouble is not None:
            self._recorder.path.failed("recall", recalled.trouble)
        return recalled

    def _dropped(self, incoming: Incoming, blocks: Mapping[int, str]) -> frozenset[int]:
        limit = self._max_context_tokens
        if not limit:
            return frozenset()
        return dropped_messages(incoming.request, blocks, max_tokens=limit, num_bytes=len(incoming.raw))

    def _outgoing(self, turn: _Turn, headers: dict[str, str]) -> Outgoing:
        incoming, recalled, record = turn.incoming, turn.recalled, turn.record
        request = incoming.request
        dropped = self._dropped(incoming, recalled.blocks)
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
            caller=turn.opening.caller,
            headers=incoming.headers,
            now=self._recorder.clock(),
            tell=record.attempts.append,
        )

    async def _answer(self, turn: _Turn, headers: dict[str, str]) -> Response:
        incoming, record, recaller = turn.incoming, turn.record, self._recaller
        if recaller is not None or turn.router.needs_caller:
            caller = await turn.opening.identify()
            if recaller is not None:
                began_at = self._recorder.clock()
                turn.recalled = await self._recall(incoming, caller, recaller)
                turn.recall_s = self._recorder.clock() - began_at
        headers["X-MetaClaw-Recalled"] = str(len(turn.recalled.names))
        outgoing = self._outgoing(turn, headers)
        turn.send()
        routed, body = await unless_client_leaves(incoming.receive, self._ask(turn, outgoing))
        headers["X-MetaClaw-Session"] = (await turn.opening.done()).session
        headers |= _told(routed.reply.headers, incoming.errors)
        headers |= _policy_headers(routed) | _left_out(incoming.request, routed)
        reply, is_own = routed.reply, incoming.request.dialect == routed.dialect.name
        content_type = reply.content_type
        if body is None:
            way = passage(
                incoming.dialect,
                routed.dialect,
                incoming.request.body,
                content_type,
                errors=incoming.errors,
                is_policy=routed.policy is not None,
            )
            stream = AnswerStream(reply, way, record, errors=incoming.errors, on_answer=routed.on_answer)
            return ForwardingResponse(stream, content_type=content_type if is_own else EVENTS, headers=headers)
        plain = plain_answer(
            body,
            content_type,
            request=incoming.request,
            client=incoming.dialect,
            upstream=routed.dialect,
            name=routed.upstream,
        )
        if routed.on_answer is not None and plain.answer is not None:
            routed.on_answer(plain.answer)
        record.close("done", plain.answer, raw=plain.raw, status=200)
        return WholeResponse(plain.body, content_type=plain.content_type, headers=headers)

    async def _ask(self, turn: _Turn, outgoing: Outgoing) -> tuple[Routed, bytes | None]:
        """An answer that has begun, of a turn that is recorded as open; with all of it where it is not streamed on."""
        routed = await turn.router.send(outgoing)
        turn.record.begin_answer(routed.upstream, routed.policy)
        request, reply = turn.incoming.request, routed.reply
        is_streamed = False
        try:
            await turn.opening.done()
            is_streamed = request.is_stream and reply.content_type.startswith("text/event-stream")
            return routed, None if is_streamed else await reply.read()
        finally:
            if not is_streamed:
                reply.close()


class _Turn:
    """What becomes of a request on its way: what was recalled for it, and its record, opened while a model works."""

    def __init__(self, incoming: Incoming, record: TurnRecord, router: Router) -> None:
        self.incoming = incoming
        self.record = record
        self.recalled = Recalled()
        self.recall_s: float | None = None
        self.router = router  # to the end, whatever its agent's settings become meanwhile
        self.opening = Opening(incoming.sender, self._open)

    def send(self) -> None:
        """A model is asked next."""
        self.record.sending()
        self.opening.soon()

    async def close(self, state: EndState, *, error: str, status: int | None = None) -> None:
        """Record that nothing came of it, with its opening before that, unless that cannot be had."""
        try:
            await self.opening.done()
        finally:
            self.record.close(state, status=status, error=error)

    def _open(self, caller: Caller) -> None:
        self.record.open(
            self.incoming.request,
            self.incoming.raw,
            caller,
            upstream=self.router.upstream_name,
            recalled=self.recalled.names,
            weighed=self.recalled.weighed,
            recall_s=self.recall_s,
        )


async def _refusal(error: MetaClawError, turn: _Turn, headers: dict[str, str]) -> Response:
    if isinstance(error, UpstreamError):
        headers |= _told(error.headers, turn.incoming.errors)
    answer = error_answer(error, turn.incoming.errors)
    await turn.close("failed", status=answer.status, error=str(error))
    headers["X-MetaClaw-Session"] = (await turn.opening.identify()).session
    response = answer.response()
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    return response


def _told(came: Mapping[str, str], errors: ErrorDialect) -> Mapping[str, str]:
    """What came with an answer; its id under the name that the client's SDK knows as well."""
    name = _REQUEST_ID[errors]
    other = came.get("x-request-id") or came.get("request-id")
    return came if other is None or name in came else {**came, name: other}


def _left_out(request: ClientRequest, routed: Routed) -> dict[str, str]:
    """What of the request the model was not told, because it could not be said to it."""
    if request.dialect != RESPONSES.name or routed.dialect is RESPONSES or not (kinds := left_out_of(request.body)):
        return {}
    return {"X-MetaClaw-Left-Out": ",".join(kinds)}


def _policy_headers(routed: Routed) -> dict[str, str]:
    headers: dict[str, str] = {}
    if routed.policy is not None:
        headers["X-MetaClaw-Policy"] = routed.policy.label
    if routed.sampling_note is not None:
        headers["X-MetaClaw-Sampling"] = routed.sampling_note
    return headers
