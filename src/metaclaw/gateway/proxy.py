"""One turn: recall, record, ask, pass on, record.

Owns the order of these steps and what a client sees of them; refuses to know which upstream answers and how things
are stored. Invariant: every turn that was opened is closed, whoever goes first: the client, the upstream or we.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.openai_chat import ChatRequest, object_or_none, parse_answer
from metaclaw.errors import UpstreamError
from metaclaw.gateway.answer_stream import CUT, AnswerStream
from metaclaw.gateway.identify import Caller
from metaclaw.gateway.recording import Recorder, TurnRecord
from metaclaw.gateway.routing import Outgoing, Routed, Router
from metaclaw.http.errors import error_answer
from metaclaw.http.sse import ClientLeftError, ForwardingResponse, unless_client_leaves
from metaclaw.recall.recaller import Recalled, Recaller

_CLIENT_CLOSED_REQUEST = 499  # nobody reads it; logs of proxies before us may


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A checked request and whose it is."""

    turn_id: str
    request: ChatRequest
    raw: bytes
    caller: Caller
    receive: Receive


class Proxy:
    """Makes responses of requests."""

    def __init__(self, *, router: Router, recaller: Recaller | None, recorder: Recorder) -> None:
        self._router = router
        self._recaller = recaller
        self._recorder = recorder

    async def respond(self, incoming: Incoming) -> Response:
        """Answer one request."""
        recalled = await self._recall(incoming)
        record = self._recorder.begin(incoming.turn_id)
        headers = {"X-MetaClaw-Turn": incoming.turn_id, "X-MetaClaw-Recalled": str(len(recalled.names))}
        try:
            await record.open(
                incoming.request, incoming.caller, upstream=self._router.upstream_name, recalled=recalled.names
            )
            return await self._answer(incoming, recalled.messages, record, headers)
        except UpstreamError as error:
            answer = error_answer(error, "openai")
            await record.close("failed", status=answer.status, error=str(error))
            response = answer.response()
            response.headers.update(headers)
            return response
        except ClientLeftError:
            await record.close("cut", status=_CLIENT_CLOSED_REQUEST, error=CUT)
            return Response(status_code=_CLIENT_CLOSED_REQUEST)
        except asyncio.CancelledError:
            await record.close("cut", error=CUT)
            raise
        except BaseException as error:  # a bug of ours, and no fault of the client's
            await record.close("failed", error=f"{type(error).__name__} in the gateway; its log has the details")
            raise

    async def _recall(self, incoming: Incoming) -> Recalled:
        messages, caller, recaller = incoming.request.messages, incoming.caller, self._recaller
        nothing = Recalled(messages=messages)
        if recaller is None or caller.kind == "side":
            return nothing
        return await self._recorder.path.attempt(
            "recall",
            lambda: recaller.recall(
                messages,
                agent=caller.agent,
                session=caller.session,
                turn_id=incoming.turn_id,
                now=self._recorder.clock(),
            ),
            nothing,
        )

    async def _answer(
        self, incoming: Incoming, messages: list[JsonObject], record: TurnRecord, headers: dict[str, str]
    ) -> Response:
        outgoing = Outgoing(
            request=incoming.request,
            raw=incoming.raw,
            messages=messages,
            caller=incoming.caller,
            now=self._recorder.clock(),
        )
        routed = await unless_client_leaves(incoming.receive, self._router.send(outgoing))
        record.begin_answer(routed.upstream, routed.policy)
        headers |= _policy_headers(routed)
        content_type = routed.reply.content_type
        if content_type.startswith("text/event-stream"):
            stream = AnswerStream(routed.reply, record, is_policy=routed.policy is not None)
            return ForwardingResponse(stream, content_type=content_type, headers=headers)
        try:
            body = await unless_client_leaves(incoming.receive, routed.reply.read())
        finally:
            routed.reply.close()
        return Response(
            await _close_with(record, body, routed), media_type=content_type, headers={**headers}, status_code=200
        )


async def _close_with(record: TurnRecord, body: bytes, routed: Routed) -> bytes:
    """Record a plain answer; return the body as the client gets it."""
    try:
        parsed = object_or_none(json.loads(body))
    except ValueError:
        parsed = None
    if parsed is None:
        raise UpstreamError(f"{routed.upstream} answered with something that is not a JSON object", status=502)
    await record.close("done", parse_answer(parsed), status=200)
    if routed.policy is not None and parsed.pop("policy_record", None) is not None:
        return json.dumps(parsed, separators=(",", ":")).encode()
    return body


def _policy_headers(routed: Routed) -> dict[str, str]:
    headers: dict[str, str] = {}
    if routed.policy is not None:
        headers["X-MetaClaw-Policy"] = routed.policy.label
    if routed.sampling_note is not None:
        headers["X-MetaClaw-Sampling"] = routed.sampling_note
    return headers
