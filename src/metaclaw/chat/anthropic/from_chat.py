"""A chat request as a request of Anthropic's messages.

Owns the messages; refuses to know single parameters (``options``, ``tools``). Invariant: roles alternate, the results
of tools stand first in the user's message after the calls, in the order of the chat messages, and nothing is empty that
Anthropic refuses empty.

Instructions within the conversation join the system prompt, as Anthropic's own chat endpoint does it. Thinking goes
back only with its signature: Anthropic refuses it without, and thinking of other models has none.
"""

from __future__ import annotations

from collections.abc import Iterator

from metaclaw.chat.anthropic.answers import input_of, sealed_in
from metaclaw.chat.anthropic.blocks import TO, blocks_of, text_block
from metaclaw.chat.anthropic.call_ids import with_ids_for_claude
from metaclaw.chat.anthropic.fields import listed, object_in, text_in, unsaid
from metaclaw.chat.anthropic.options import options_from_chat
from metaclaw.chat.anthropic.tools import tools_from_chat
from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError

_SYSTEM = ("system", "developer")


def request_from_chat(body: JsonObject) -> JsonObject:
    """Raises ``InvalidRequestError`` with the name of what Anthropic's messages cannot say."""
    system: list[JsonObject] = []
    turns: list[tuple[str, list[JsonObject]]] = []
    for index, item in enumerate(listed(body.get("messages"))):
        message, param = object_in(item), f"messages[{index}]"
        if message.get("name") and message.get("role") != "tool":  # a tool's is in the call that it answers
            raise unsaid(f"{param}.name", "a name of who speaks", TO)
        role, blocks = _turn(message, param)
        if role == "system":
            system += blocks
        elif blocks and turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        elif blocks:
            turns.append((role, blocks))
    if not turns:
        raise InvalidRequestError("messages: none of them holds any text for the model", param="messages")
    result = {**options_from_chat(body), **tools_from_chat(body)}
    if system:
        result["system"] = _shortest(system)
    return with_ids_for_claude({**result, "messages": [_message(role, blocks) for role, blocks in turns]})


def _turn(message: JsonObject, param: str) -> tuple[str, list[JsonObject]]:
    role, content = message.get("role"), message.get("content")
    if role in _SYSTEM:
        blocks = blocks_of(content, f"{param}.content")
        if any(block["type"] != "text" for block in blocks):
            raise unsaid(f"{param}.content", "a system prompt of more than text", TO)
        return "system", blocks
    if role == "tool":
        return "user", [_result(message, param)]
    if role == "user":
        return "user", blocks_of(content, f"{param}.content")
    if role == "assistant":
        return "assistant", list(_answer(message, param))
    raise unsaid(f"{param}.role", f"the role {role!r:.80}", TO)


def _result(message: JsonObject, param: str) -> JsonObject:
    content = message.get("content")
    said = content if isinstance(content, str) else blocks_of(content, f"{param}.content")
    return {"type": "tool_result", "tool_use_id": text_in(message.get("tool_call_id")), "content": said}


def _answer(message: JsonObject, param: str) -> Iterator[JsonObject]:
    for key in ("audio", "function_call"):
        if message.get(key):
            raise unsaid(f"{param}.{key}", "this of an answer", TO)
    yield from sealed_in(message)
    yield from blocks_of(message.get("content"), f"{param}.content")
    if text_in(message.get("refusal")).strip():
        yield text_block(message["refusal"])
    for number, call in enumerate(listed(message.get("tool_calls"))):
        yield _use(object_in(call), f"{param}.tool_calls[{number}]")


def _use(call: JsonObject, param: str) -> JsonObject:
    if call.get("type", "function") != "function":
        raise unsaid(f"{param}.type", f"a call of type {call.get('type')!r:.80}", TO)
    function = object_in(call.get("function"))
    given = input_of(function.get("arguments"))
    return {"type": "tool_use", "id": text_in(call.get("id")), "name": text_in(function.get("name")), "input": given}


def _message(role: str, blocks: list[JsonObject]) -> JsonObject:
    if role == "user":
        blocks = sorted(blocks, key=lambda block: block["type"] != "tool_result")
    return {"role": role, "content": _shortest(blocks)}


def _shortest(blocks: list[JsonObject]) -> str | list[JsonObject]:
    is_text = len(blocks) == 1 and blocks[0].keys() == {"type", "text"}
    return blocks[0]["text"] if is_text else blocks
