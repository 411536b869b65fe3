"""Tools and the choice among them, both ways.

Owns functions, which both dialects have; refuses to know calls and results. Invariant: a tool that the other side
cannot have is an ``InvalidRequestError`` that names it.
"""

from __future__ import annotations

from metaclaw.chat.anthropic import blocks, sayable
from metaclaw.chat.anthropic.fields import listed, object_in, objects, text_in, unsaid
from metaclaw.chat.messages import MAX_NAME, JsonObject, short_name
from metaclaw.errors import InvalidRequestError

# When a tool is loaded or cached, and how its input is streamed, changes nothing of what it is.
_HINTS = ("type", "cache_control", "defer_loading", "eager_input_streaming")
_SAID = ("name", "description", "input_schema", "strict")
_FREE = ("auto", "none")
_TO_CHAT = {"auto": "auto", "any": "required", "none": "none"}
_FROM_CHAT = {chat: ours for ours, chat in _TO_CHAT.items()}


def tools_to_chat(body: JsonObject) -> JsonObject:
    """The keys of a chat request that say which tools there are."""
    tools = [_function(object_in(tool), f"tools[{index}]") for index, tool in enumerate(listed(body.get("tools")))]
    result: JsonObject = {"tools": tools} if tools else {}
    choice = object_in(body.get("tool_choice"))
    kind = choice.get("type")
    if not choice or (not tools and kind in _FREE):  # chat models refuse a choice among none
        return result
    if kind == "tool":
        result["tool_choice"] = {"type": "function", "function": {"name": short_name(text_in(choice.get("name")))}}
    elif isinstance(kind, str) and kind in _TO_CHAT:
        result["tool_choice"] = _TO_CHAT[kind]
    else:
        raise unsaid("tool_choice", f"a choice of type {kind!r:.80}", sayable.TO)
    if choice.get("disable_parallel_tool_use") is True:
        result["parallel_tool_calls"] = False
    return result


def own_name(called: str, request: JsonObject) -> str:
    """The name that ``request`` has for the tool that a chat model ``called``."""
    if len(called) != MAX_NAME:  # as all have that were cut
        return called
    names = (text_in(object_in(tool).get("name")) for tool in listed(request.get("tools")))
    return next((name for name in names if short_name(name) == called), called)


def with_short_names(message: JsonObject) -> JsonObject:
    """A chat message whose calls are of tools as a chat model knows them."""
    calls = objects(message.get("tool_calls"))
    if not any(len(call["function"]["name"]) > MAX_NAME for call in calls):
        return message
    named = [{**call, "function": {**call["function"], "name": short_name(call["function"]["name"])}} for call in calls]
    return {**message, "tool_calls": named}


def tools_from_chat(body: JsonObject) -> JsonObject:
    """The keys of an Anthropic request that say which tools there are."""
    tools = [_tool(object_in(tool), f"tools[{index}]") for index, tool in enumerate(listed(body.get("tools")))]
    choice = _choice(body.get("tool_choice"))
    if body.get("parallel_tool_calls") is False and tools and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    result: JsonObject = {"tools": tools} if tools else {}
    if choice and (tools or choice["type"] not in _FREE):
        result["tool_choice"] = choice
    return result


def with_tools_called(body: JsonObject) -> JsonObject:
    """A request with a history of calls and no tools, as it is when a program compacts: the tools that were called.

    Bedrock refuses one without, as Anthropic did for long; none of them can be called.
    """
    blocks = (block for message in objects(body.get("messages")) for block in objects(message.get("content")))
    names = [text_in(block.get("name")) for block in blocks if block.get("type") == "tool_use"]
    if not names or body.get("tools") or body.get("tool_choice"):
        return body
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in dict.fromkeys(names)]
    return {**body, "tools": tools, "tool_choice": {"type": "none"}}


def _function(tool: JsonObject, param: str) -> JsonObject:
    if tool.get("type") not in (None, "custom"):
        raise unsaid(f"{param}.type", f"the tool {tool.get('type')!r:.80} of Anthropic's own", sayable.TO)
    if not text_in(tool.get("name")):
        raise InvalidRequestError(f"{param} has no 'name'", param=f"{param}.name")
    for key, value in tool.items():
        if key not in _HINTS and key not in _SAID and value and not _is_direct(key, value):
            raise unsaid(f"{param}.{key}", "this of a tool", sayable.TO)
    function = {"name": short_name(tool["name"]), "parameters": object_in(tool.get("input_schema"))}
    function |= {key: tool[key] for key in ("description", "strict") if tool.get(key) is not None}
    return {"type": "function", "function": function}


def _tool(tool: JsonObject, param: str) -> JsonObject:
    if tool.get("type", "function") != "function":
        raise unsaid(f"{param}.type", f"a tool of type {tool.get('type')!r:.80}", blocks.TO)
    function = object_in(tool.get("function"))
    if not text_in(function.get("name")):
        raise InvalidRequestError(f"{param}.function has no 'name'", param=f"{param}.function.name")
    for key, value in tool.items():
        if key not in ("type", "function", "cache_control") and value and not _is_direct(key, value):
            raise unsaid(f"{param}.{key}", "this of a tool", blocks.TO)
    schema = {"type": "object", **object_in(function.get("parameters"))}
    kept = {key: function[key] for key in ("description", "strict") if function.get(key) is not None}
    return {"name": function["name"], "input_schema": schema, **kept}


def _is_direct(key: str, value: object) -> bool:
    """Whether this says that the model may call a tool, as it may without a word."""
    return key == "allowed_callers" and value == ["direct"]


def _choice(choice: object) -> JsonObject:
    if choice is None:
        return {}
    if isinstance(choice, str) and choice in _FROM_CHAT:
        return {"type": _FROM_CHAT[choice]}
    named = text_in(object_in(object_in(choice).get("function")).get("name"))
    if named:
        return {"type": "tool", "name": named}
    raise unsaid("tool_choice", f"{choice!r:.80}", blocks.TO)
