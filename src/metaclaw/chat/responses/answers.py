"""Plain answers, both ways.

Owns the shape of a response object, its usage and its reasons to end; refuses to know streams. Invariant: ids are made
of the answer's own id and time, so the same answer has the same ids, and nothing that came is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from metaclaw.chat.messages import JsonObject, text_of
from metaclaw.chat.reading import as_count, as_object, as_text, as_time, objects_in, without
from metaclaw.chat.responses import built_in_calls, freeform, tool_search
from metaclaw.chat.responses.citations import citations_from_chat, citations_to_chat
from metaclaw.chat.responses.conversation import message_of
from metaclaw.chat.responses.namespaces import OwnTool, own_tool
from metaclaw.chat.responses.reasoning import reasoning_item, wants_sealed
from metaclaw.chat.streamed_calls import arguments_in
from metaclaw.chat.usage import cache_read, cache_written, completion_tokens

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_CALLS = ("function_call", freeform.CALL)
_FINISH_REASONS = {reason: finish for finish, reason in _INCOMPLETE.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What stays the same of a response from its first event to its last."""

    request: JsonObject
    response_id: str
    created: int
    model: str

    @classmethod
    def of(cls, answer: JsonObject, request: JsonObject) -> Envelope:
        """For the ``chat.completion``, or the first chunk, that answers ``request``."""
        created = as_count(answer.get("created"))
        # Hashed: some servers count their ids from one, others make them longer than may be sent back (64 characters).
        made = hashlib.sha256(f"{answer.get('id')}/{created}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
        model = as_text(answer.get("model")) or as_text(request.get("model"))
        return cls(request=request, response_id=f"resp_{made}", created=created, model=model)

    def item_id(self, prefix: str, index: int) -> str:
        return f"{prefix}_{self.response_id.removeprefix('resp_')}_{index}"

    def response(
        self,
        *,
        status: str,
        output: list[JsonObject],
        finish_reason: str | None = None,
        usage: JsonObject | None = None,
        error: JsonObject | None = None,
    ) -> JsonObject:
        """The whole object."""
        reason = _INCOMPLETE.get(finish_reason or "") if status == "incomplete" else None
        return {
            "id": self.response_id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": self.model,
            "output": output,
            "previous_response_id": None,
            "store": False,
            "usage": usage_from_chat(usage),
            **_echoed(self.request),
        }


def answer_from_chat(answer: JsonObject, request: JsonObject) -> JsonObject:
    """A ``chat.completion`` as the response to ``request``."""
    envelope = Envelope.of(answer, request)
    choices = objects_in(answer.get("choices"))
    choice = choices[0] if choices else as_object(None)
    reason = as_text(choice.get("finish_reason"))
    status = status_of(reason)
    output = _output_of(as_object(choice.get("message")), envelope, status)
    return envelope.response(
        status=status, output=output, finish_reason=reason, usage=as_object(answer.get("usage")) or None
    )


def answer_to_chat(body: JsonObject) -> JsonObject:
    """A response as a ``chat.completion``."""
    choices: list[JsonObject] = []
    message = message_of(body.get("output"))
    if message is not None:
        parts = [part for item in objects_in(body.get("output")) for part in objects_in(item.get("content"))]
        if cited := [one for part in parts for one in citations_to_chat(part.get("annotations"))]:
            message["annotations"] = cited
        choices.append({"index": 0, "message": message, "finish_reason": finish_reason_of(body), "logprobs": None})
    return {
        "id": as_text(body.get("id")),
        "object": "chat.completion",
        "created": as_time(body.get("created_at")),
        "model": as_text(body.get("model")),
        "choices": choices,
        "usage": usage_to_chat(body.get("usage")),
    }


def status_of(finish_reason: str | None) -> str:
    return "incomplete" if finish_reason in _INCOMPLETE else "completed"


def finish_reason_of(response: JsonObject) -> str:
    """Why an answer ended, as chat says it."""
    if response.get("status") == "incomplete":
        reason = as_text(as_object(response.get("incomplete_details")).get("reason"))
        return _FINISH_REASONS.get(reason, "length")
    has_calls = any(
        item.get("type") in _CALLS or (item.get("type") == tool_search.CALL and tool_search.is_clients(item))
        for item in objects_in(response.get("output"))
    )
    return "tool_calls" if has_calls or built_in_calls.waiting_in(response.get("output")) else "stop"


def usage_from_chat(usage: JsonObject | None) -> JsonObject | None:
    if not usage:
        return None
    taken, given = as_count(usage.get("prompt_tokens")), completion_tokens(usage)
    of_prompt = as_object(usage.get("prompt_tokens_details"))
    of_answer = as_object(usage.get("completion_tokens_details"))
    return {
        "input_tokens": taken,
        "input_tokens_details": {
            "cached_tokens": cache_read(usage) or 0,
            "cache_write_tokens": cache_written(of_prompt) or 0,
        },
        "output_tokens": given,
        "output_tokens_details": {"reasoning_tokens": as_count(of_answer.get("reasoning_tokens"))},
        "total_tokens": as_count(usage.get("total_tokens")) or taken + given,
    }


def usage_to_chat(usage: object) -> JsonObject | None:
    counted = as_object(usage)
    if not counted:
        return None
    taken, given = as_count(counted.get("input_tokens")), as_count(counted.get("output_tokens"))
    of_input = as_object(counted.get("input_tokens_details"))
    details: JsonObject = {"cached_tokens": as_count(of_input.get("cached_tokens"))}
    if written := as_count(of_input.get("cache_write_tokens")):
        details["cache_creation_tokens"] = written
    reasoning = as_count(as_object(counted.get("output_tokens_details")).get("reasoning_tokens"))
    return {
        "prompt_tokens": taken,
        "completion_tokens": given,
        "total_tokens": as_count(counted.get("total_tokens")) or taken + given,
        "prompt_tokens_details": details,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def text_part(text: str, cited: Sequence[JsonObject] = ()) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": list(cited), "logprobs": []}


def message_item(item_id: str, content: list[JsonObject], status: str) -> JsonObject:
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def call_prefix(tool: OwnTool) -> str:
    """What the id of a call's item begins with."""
    return {freeform.KIND: "ctc", tool_search.KIND: "tsc"}.get(tool.kind, "fc")


def call_item(item_id: str, tool: OwnTool, *, call_id: str, arguments: str, status: str) -> JsonObject:
    """A call of ``tool``; ``call_id`` may be empty where the model gave none."""
    called_as = {"call_id": call_id or f"call_{item_id.partition('_')[2]}", **tool.named}
    if tool.kind == freeform.KIND:
        said = {"type": freeform.CALL, **called_as, "input": freeform.text_of(arguments)}
    elif tool.kind == tool_search.KIND:
        said = {"type": tool_search.CALL, **called_as, **tool_search.call_of(arguments)}
    else:
        said = {"type": "function_call", **called_as, "arguments": whole_arguments(arguments, status)}
    return {"id": item_id, **said, "status": status}


def whole_arguments(arguments: str, status: str) -> str:
    """The arguments of a call that is ``completed``: some models write nothing for none, which is no JSON."""
    return arguments if arguments.strip() or status != "completed" else "{}"


def thought_in(message: JsonObject) -> str:
    """The thinking of a message or a delta. Some servers name it ``reasoning``."""
    return as_text(message.get("reasoning_content")) or as_text(message.get("reasoning"))


def sealed_in(message: JsonObject, request: JsonObject) -> list[JsonObject]:
    """The thinking of a message or a delta that its model wants back as it is, if the client can send it back."""
    return [without(block, "index") for block in objects_in(message.get("thinking_blocks")) if wants_sealed(request)]


def _output_of(message: JsonObject, envelope: Envelope, status: str) -> list[JsonObject]:
    output: list[JsonObject] = []
    thought, sealed = thought_in(message), sealed_in(message, envelope.request)
    if thought or sealed:
        output.append(reasoning_item(envelope.item_id("rs", 0), thought, envelope.request, blocks=sealed))
    content: list[JsonObject] = []
    calls = objects_in(message.get("tool_calls"))
    refusal = as_text(message.get("refusal"))
    text = text_of(message.get("content"))
    if text or not (calls or refusal):
        content.append(text_part(text, citations_from_chat(message)))
    if refusal:
        content.append({"type": "refusal", "refusal": refusal})
    if content:
        output.append(message_item(envelope.item_id("msg", len(output)), content, status))
    for call in calls:
        function = as_object(call.get("function"))
        tool, arguments = own_tool(as_text(function.get("name")), envelope.request), arguments_in(function)
        item_id = envelope.item_id(call_prefix(tool), len(output))
        output.append(call_item(item_id, tool, call_id=as_text(call.get("id")), arguments=arguments, status=status))
    return output


def _echoed(request: JsonObject) -> JsonObject:
    reasoning, text = as_object(request.get("reasoning")), as_object(request.get("text"))
    parallel = request.get("parallel_tool_calls")
    tools = objects_in(request.get("tools"))
    return {
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "metadata": request.get("metadata") or {},
        "parallel_tool_calls": True if parallel is None else parallel,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "service_tier": request.get("service_tier") or "default",
        "temperature": request.get("temperature"),
        "text": {"format": {"type": "text"}, **text},
        "tool_choice": request.get("tool_choice") or "auto",
        "tools": [{"parameters": None, "strict": None, **tool} for tool in tools],
        "top_p": request.get("top_p"),
        "truncation": request.get("truncation") or "disabled",
        "user": request.get("user"),
    }
