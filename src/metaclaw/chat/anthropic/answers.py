"""Plain (not streamed) answers, both ways.

Owns the content of an answer; refuses to know streams. Invariant: whatever a model wrote, something of the right shape
comes out; nothing here raises. Thinking that Anthropic signed rides along as ``thinking_blocks``, so that a chat client
that sends the message back as it came can go on thinking.
"""

from __future__ import annotations

import json

from metaclaw.chat.anthropic.blocks import text_block
from metaclaw.chat.anthropic.conversation import answer_message
from metaclaw.chat.anthropic.endings import finish_reason, stop_keys, usage_from_chat, usage_to_chat
from metaclaw.chat.anthropic.fields import is_object, object_in, objects, text_in
from metaclaw.chat.anthropic.own_thinking import SIGNATURE
from metaclaw.chat.anthropic.tools import own_name
from metaclaw.chat.messages import JsonObject


def answer_to_chat(body: JsonObject) -> JsonObject:
    """An Anthropic message as a ``chat.completion``."""
    message = answer_message(body.get("content"))
    if sealed := [block for block in objects(body.get("content")) if is_sealed(block)]:
        # OpenAI's SDK wants an index in what a stream may bring in parts; plain answers are no different.
        message["thinking_blocks"] = [{**block, "index": index} for index, block in enumerate(sealed)]
    if explanation := text_in(object_in(body.get("stop_details")).get("explanation")):
        message["refusal"] = explanation
    choice: JsonObject = {"index": 0, "message": message, "finish_reason": finish_reason(body.get("stop_reason"))}
    if sequence := text_in(body.get("stop_sequence")):
        choice["stop_reason"] = sequence
    return {
        "id": text_in(body.get("id")),
        "object": "chat.completion",
        "created": 0,  # Anthropic does not say
        "model": text_in(body.get("model")),
        "choices": [{**choice, "logprobs": None}],
        "usage": usage_to_chat(object_in(body.get("usage"))),
    }


def answer_from_chat(answer: JsonObject, request: JsonObject) -> JsonObject:
    """The first choice of a ``chat.completion`` as an Anthropic message."""
    choice = next(iter(objects(answer.get("choices"))), JsonObject())
    message = object_in(choice.get("message"))
    content = _content(message, text_in(answer.get("id")), request)
    has_calls = any(block["type"] == "tool_use" for block in content)
    return {
        "id": text_in(answer.get("id")),
        "type": "message",
        "role": "assistant",
        "model": text_in(answer.get("model")),
        "content": content,
        **stop_keys(choice, request, has_calls=has_calls, is_refusal=bool(message.get("refusal"))),
        "usage": usage_from_chat(answer.get("usage")),
    }


def is_sealed(block: JsonObject) -> bool:
    """Whether ``block`` is thinking that only Anthropic can read or verify."""
    return block.get("type") == "redacted_thinking" or (
        block.get("type") == "thinking" and bool(block.get("signature"))
    )


def sealed_in(message: JsonObject) -> list[JsonObject]:
    """The sealed thinking that rides along with a chat message or delta, as it came from Anthropic."""
    blocks = filter(is_sealed, objects(message.get("thinking_blocks")))
    return [{key: value for key, value in block.items() if key != "index"} for block in blocks]


def thinking_in(message: JsonObject) -> str:
    """The thinking in a chat message or delta: one name is DeepSeek's, the other OpenRouter's and newer vLLM's."""
    return text_in(message.get("reasoning_content")) or text_in(message.get("reasoning"))


def call_id(given: object, answer_id: str, number: int) -> str:
    """The id of a call. Some servers give none, and a conversation cannot do without."""
    return text_in(given) or f"toolu_{answer_id or 'call'}_{number}"


def input_of(arguments: object) -> JsonObject:
    """The input of a tool of a call's arguments, whatever a model wrote there."""
    if isinstance(arguments, str) and arguments.strip():
        try:
            value: object = json.loads(arguments)
        except (ValueError, RecursionError):
            value = None
        # Whoever reads it shall see what the model wrote: the client, whose tool refuses it, and a model that goes on
        # with a conversation in which that happened.
        return object_in(value) if is_object(value) else {"invalid_arguments": arguments}
    return object_in(arguments)


def _content(message: JsonObject, answer_id: str, request: JsonObject) -> list[JsonObject]:
    blocks: list[JsonObject] = sealed_in(message)
    thinking = thinking_in(message)
    if thinking and not blocks:
        blocks = [{"type": "thinking", "thinking": thinking, "signature": SIGNATURE}]
    content: object = message.get("content")
    texts = [content] if isinstance(content, str) else [text_in(part.get("text")) for part in objects(content)]
    blocks += [text_block(text) for text in (*texts, text_in(message.get("refusal"))) if text]
    for number, call in enumerate(objects(message.get("tool_calls"))):
        function = object_in(call.get("function"))
        name, arguments = own_name(text_in(function.get("name")), request), input_of(function.get("arguments"))
        uid = call_id(call.get("id"), answer_id, number)
        blocks.append(JsonObject(type="tool_use", id=uid, name=name, input=arguments))
    return blocks
