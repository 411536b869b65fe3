"""The conversation in an Anthropic request, in chat form, and edits of the request by that form.

Owns where each chat message stands in the client's body; refuses to know what is attached or dropped and why.
Invariant: reading is lenient and changes nothing; an edit leaves every other key, message and block as the client sent
it.

One message of the client can be several here: the results of tools stand before the rest of the user's message. Text
blocks of an answer are one string, as the model wrote it; blocks of a user's message stay apart, because clients put
their own notes and the human's words side by side. Instructions within the conversation stand behind a user's message,
as Anthropic wants it; where that goes they join the system prompt. The first system block of Claude Code is no prompt
but a header of its transport, different on every request, which Anthropic takes out as well.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from metaclaw.chat.anthropic.blocks import content_of, part_of, text_block
from metaclaw.chat.anthropic.fields import listed, object_in, objects, text_in
from metaclaw.chat.messages import JsonObject

BILLING_HEADER = "x-anthropic-billing-header:"
_SYSTEM = -1
_INSTRUCTS = "system"
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_ERROR_WITHIN = 40  # characters: enough to see that a result says itself that it is an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A chat message, and where it comes from: ``at`` is the client's message, ``block`` one tool result in it."""

    message: JsonObject
    at: int
    block: int | None = None


def conversation(body: JsonObject) -> list[Placed]:
    """The messages in chat form."""
    messages = enumerate(listed(body.get("messages")))
    return [*_system(body), *(placed for at, message in messages for placed in _placed(at, object_in(message)))]


def edited(body: JsonObject, *, blocks: Mapping[int, str], dropped: Collection[int] = ()) -> JsonObject:
    """``body`` with text after the content of some messages and without others, by their index in ``conversation``."""
    places = conversation(body)
    attached = {places[index].at: text for index, text in blocks.items() if index not in dropped}
    result = {**body}
    if "messages" in body:
        gone = [places[index] for index in dropped]
        stays = {placed.at for index, placed in enumerate(places) if index not in dropped}
        result["messages"] = [
            _edited(message, {placed.block for placed in gone if placed.at == at}, attached.get(at))
            for at, message in enumerate(objects(body["messages"]))
            if at in stays
        ]
    if any(places[index].at == _SYSTEM for index in dropped):
        del result["system"]
    elif _SYSTEM in attached:
        result["system"] = _with_text(body.get("system"), attached[_SYSTEM])
    return _with_its_instructions(result) if dropped else result


def _with_its_instructions(body: JsonObject) -> JsonObject:
    """``body`` with instructions that follow nobody in its system prompt."""
    staying: list[JsonObject] = []
    moved: list[object] = []
    for message in objects(body.get("messages")):
        is_instruction = message.get("role") == _INSTRUCTS
        if is_instruction and (not staying or staying[-1].get("role") not in ("user", _INSTRUCTS)):
            moved += _blocks(message.get("content"))
        else:
            staying.append(message)
    return {**body, "messages": staying, "system": [*_blocks(body.get("system")), *moved]} if moved else body


def answer_message(content: object) -> JsonObject:
    """An assistant message of content blocks (or of a string)."""
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    blocks = objects(content)
    texts = [text_in(block.get("text")) for block in blocks if block.get("type") == "text"]
    calls = [tool_call(block) for block in blocks if block.get("type") == "tool_use"]
    thinking = "".join(text_in(block.get("thinking")) for block in blocks if block.get("type") == "thinking")
    message: JsonObject = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if thinking:
        message["reasoning_content"] = thinking
    if calls:
        message["tool_calls"] = calls
    return message


def written(arguments: object) -> str:
    """The input of a tool as chat has it, in the spacing that models use themselves."""
    return _ENCODER.encode(arguments)


def tool_call(block: JsonObject) -> JsonObject:
    """A ``tool_use`` block as one of a chat message's calls."""
    function = {"name": text_in(block.get("name")), "arguments": written(block.get("input") or {})}
    return {"id": text_in(block.get("id")), "type": "function", "function": function}


def system_blocks(system: object) -> list[JsonObject]:
    """The blocks of a system prompt that is a list, without those that are no prompt."""
    return [block for block in objects(system) if not text_in(block.get("text")).startswith(BILLING_HEADER)]


def _system(body: JsonObject) -> Iterator[Placed]:
    system: object = body.get("system")
    content = system if isinstance(system, str) else [part_of(block) for block in system_blocks(system)]
    if content:
        yield Placed(message={"role": "system", "content": content}, at=_SYSTEM)


def _placed(at: int, message: JsonObject) -> Iterator[Placed]:
    role, content = text_in(message.get("role")), message.get("content")
    if role == "assistant":
        yield Placed(message=answer_message(content), at=at)
        return
    results = [
        Placed(message=_result(object_in(block)), at=at, block=number)
        for number, block in enumerate(listed(content))
        if _is_result(block)
    ]
    yield from results
    rest = content if isinstance(content, str) else [block for block in listed(content) if not _is_result(block)]
    if rest or not results:
        yield Placed(message={"role": role, "content": content_of(rest)}, at=at)


def _is_result(block: object) -> bool:
    return object_in(block).get("type") == "tool_result"


def _result(block: JsonObject) -> JsonObject:
    content = content_of(block.get("content") or "")
    if block.get("is_error") is True:
        content = _as_error(content)
    return {"role": "tool", "tool_call_id": text_in(block.get("tool_use_id")), "content": content}


def _as_error(content: str | list[JsonObject]) -> str | list[JsonObject]:
    """Chat has no flag for a tool that failed, so the text says it."""
    first = content if isinstance(content, str) else text_in(content[0].get("text")) if content else ""
    if "error" in first[:_ERROR_WITHIN].lower():
        return content
    return f"Error: {content}" if isinstance(content, str) else [text_block("Error:"), *content]


def _edited(message: JsonObject, gone: Collection[int | None], text: str | None) -> JsonObject:
    content = message.get("content")
    if gone:
        content = [
            block for number, block in enumerate(listed(content)) if (number if _is_result(block) else None) not in gone
        ]
    elif text is None:
        return message
    return {**message, "content": content if text is None else _with_text(content, text)}


def _with_text(content: object, text: str) -> list[object]:
    return [*_blocks(content), text_block(text)]


def _blocks(content: object) -> list[object]:
    # A string becomes a block: clients send the same message as a string now and as blocks later.
    return [text_block(content)] if isinstance(content, str) else listed(content)
