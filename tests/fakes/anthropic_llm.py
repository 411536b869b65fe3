"""What a model that speaks Anthropic's messages sends, for ``tests.fakes.llm``.

The fake's ``Answer`` is the same for both dialects; its ``message`` is here Anthropic's, with content blocks.
"""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]
USAGE: Json = {"input_tokens": 7, "output_tokens": 3}
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def message(body: Json, text: str, finish_reason: str, given: Json | None) -> Json:
    """A plain answer."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", ""),
        "content": [{"type": "text", "text": text}],
        "stop_reason": _STOP_REASONS.get(finish_reason, finish_reason),
        "stop_sequence": None,
        "usage": USAGE,
        **(given or {}),
    }


def stream(answer: Json) -> list[Json | bytes]:
    """The events that make ``answer``: text word by word, everything else in one delta."""
    head = {**answer, "content": [], "stop_reason": None, "usage": {**answer["usage"], "output_tokens": 1}}
    events = [event("message_start", message=head), event("ping")]
    for index, block in enumerate(answer["content"]):
        start, deltas = _in_pieces(block)
        events.append(event("content_block_start", index=index, content_block=start))
        events += [event("content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(event("content_block_stop", index=index))
    delta = {"stop_reason": answer["stop_reason"], "stop_sequence": answer["stop_sequence"]}
    usage = {"output_tokens": answer["usage"]["output_tokens"]}
    return [*events, event("message_delta", delta=delta, usage=usage), event("message_stop")]


def event(kind: str, **keys: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **keys})}\n\n".encode()


def _in_pieces(block: Json) -> tuple[Json, list[Json]]:
    match block["type"]:
        case "text":
            words = block["text"].split(" ")
            parts = [word + " " for word in words[:-1]] + words[-1:]
            return {**block, "text": ""}, [{"type": "text_delta", "text": part} for part in parts]
        case "thinking":
            said = {"type": "thinking_delta", "thinking": block["thinking"]}
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {**block, "thinking": "", "signature": ""}, [said, signed]
        case "tool_use":
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        case _:
            return block, []
