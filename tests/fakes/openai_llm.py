"""What a model that speaks OpenAI's other dialects sends, for ``tests.fakes.llm``.

The fake's ``Answer`` is the same for all dialects; its ``message`` is here part of a response or of a choice.
"""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]
USAGE: Json = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def response(body: Json, text: str, finish_reason: str, given: Json | None) -> Json:
    """A whole response; ``given`` may have its own ``output``."""
    is_whole = finish_reason != "length"
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    status = "completed" if is_whole else "incomplete"
    message = {"id": "msg_up", "type": "message", "role": "assistant", "status": status, "content": content}
    return {
        "id": "resp_up",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
        "instructions": body.get("instructions"),
        "model": body.get("model", ""),
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "usage": {
            "input_tokens": 7,
            "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
            "output_tokens": 3,
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": 10,
        },
        **(given or {}),
    }


def response_events(whole: Json) -> list[Json | bytes]:
    """The events that make the response: text word by word, everything else in one delta."""
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    told: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(whole["output"]):
        told += _item_events(item, {"item_id": item["id"], "output_index": index})
    told.append({"type": f"response.{whole['status']}", "response": whole})
    return [
        f"event: {event['type']}\ndata: {json.dumps({'sequence_number': number, **event})}\n\n".encode()
        for number, event in enumerate(told)
    ]


def completion(body: Json, text: str, finish_reason: str) -> Json:
    """A text completion, with as many choices as were asked for."""
    prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
    choices = [
        {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}
        for index in range(len(prompts) * (body.get("n") or 1))
    ]
    return {
        "id": "cmpl-1", "object": "text_completion", "created": 1, "model": body.get("model", ""), "choices": choices,
        "usage": USAGE,
    }  # fmt: skip


def completion_chunks(body: Json, text: str, finish_reason: str) -> list[Json | bytes]:
    """The same as a stream, word by word."""
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body.get("model", "")}

    def chunk(said: str, reason: str | None = None) -> Json:
        return {**head, "choices": [{"index": 0, "text": said, "logprobs": None, "finish_reason": reason}]}

    words = text.split(" ")
    parts = [word + " " for word in words[:-1]] + words[-1:]
    chunks: list[Json | bytes] = [*map(chunk, parts), chunk("", finish_reason)]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**head, "choices": [], "usage": USAGE})
    return chunks


def embeddings(body: Json) -> Json:
    """A vector for every text."""
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [{"object": "embedding", "index": index, "embedding": [0.5, -0.25]} for index in range(len(inputs))]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    return {"object": "list", "data": data, "model": body.get("model", ""), "usage": usage}


def _item_events(item: Json, where: Json) -> list[Json]:
    begun, inside = _parts_of(item, where)
    index = where["output_index"]
    return [
        {"type": "response.output_item.added", "output_index": index, "item": {**begun, "status": "in_progress"}},
        *inside,
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _parts_of(item: Json, where: Json) -> tuple[Json, list[Json]]:
    match item["type"]:
        case "message":
            return {**item, "content": []}, _text_events(item["content"][0], {**where, "content_index": 0})
        case "reasoning":
            at = {**where, "summary_index": 0}
            text = item["summary"][0]["text"]
            return {**item, "summary": []}, [
                {"type": "response.reasoning_summary_part.added", **at, "part": {"type": "summary_text", "text": ""}},
                {"type": "response.reasoning_summary_text.delta", **at, "delta": text},
                {"type": "response.reasoning_summary_text.done", **at, "text": text},
                {"type": "response.reasoning_summary_part.done", **at, "part": item["summary"][0]},
            ]
        case "function_call":
            arguments = item["arguments"]
            return {**item, "arguments": ""}, [
                {"type": "response.function_call_arguments.delta", **where, "delta": arguments},
                {
                    "type": "response.function_call_arguments.done",
                    **where,
                    "name": item["name"],
                    "arguments": arguments,
                },
            ]
        case _:
            return item, []


def _text_events(part: Json, at: Json) -> list[Json]:
    words = part["text"].split(" ")
    pieces = [word + " " for word in words[:-1]] + words[-1:]
    return [
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []} for piece in pieces),
        {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
    ]
