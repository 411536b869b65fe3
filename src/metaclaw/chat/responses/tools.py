"""Tools, the choice among them, and the form of the answer, both ways.

Owns what is nested in chat and flat in responses; refuses to know messages. Invariant: only what the client runs goes
from one to the other; what a provider runs itself is an ``InvalidRequestError`` that names it.

But for two: agent programs offer a search of the web beside their own tools whatever the model (Codex does, in each
request), and would get no answer at all. It is left out where there are others and nobody insists on it, as is a
provider's search among tools of which the model is told anyway; the client is told (``left_out_of``).
"""

from __future__ import annotations

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_object, as_text, is_object, objects_in, without
from metaclaw.chat.responses import freeform, tool_search
from metaclaw.chat.responses.namespaces import KIND as NAMESPACE
from metaclaw.chat.responses.namespaces import chat_name, functions_in
from metaclaw.errors import InvalidRequestError

_FUNCTION_KEYS = ("name", "description", "parameters")
_LATER = "defer_loading"  # told of only when it is searched for; here it is from the start
_SEARCHES = ("web_search", "web_search_preview")


def tools_to_chat(request: JsonObject) -> list[JsonObject]:
    """The tools of a request of responses. Raises ``InvalidRequestError``."""
    left_out = left_out_of(request)
    functions = [
        function
        for index, tool in enumerate(objects_in(request.get("tools")))
        if tool.get("type") not in left_out
        for function in _functions_of(tool, f"tools[{index}]")
    ]
    names = {as_text(function["function"].get("name")) for function in functions}
    for tool in tool_search.found_in(request):
        for function in _functions_of(tool, "a tool that was found"):
            if (name := as_text(function["function"].get("name"))) not in names:
                names.add(name)
                functions.append(function)
    return functions


def left_out_of(request: JsonObject) -> list[str]:
    """The types of the tools that a chat model is not told of."""
    tools = objects_in(request.get("tools"))
    kinds = [as_text(tool.get("type")) for tool in tools]
    is_clients = any(tool.get("type") == tool_search.KIND and tool_search.is_clients(tool) for tool in tools)
    searches = _SEARCHES if is_clients else (*_SEARCHES, tool_search.KIND)
    is_free = request.get("tool_choice") in (None, "auto", "none")
    has_others = not {"function", freeform.KIND, NAMESPACE}.isdisjoint(kinds)
    return sorted({kind for kind in kinds if kind in searches}) if is_free and has_others else []


def tools_from_chat(tools: object) -> list[JsonObject]:
    return [_tool_from_chat(tool, f"tools[{index}]") for index, tool in enumerate(objects_in(tools))]


def choice_to_chat(choice: object) -> object:
    """A ``tool_choice`` of responses as one of chat. Raises ``InvalidRequestError``."""
    if not is_object(choice):
        return choice
    kind = choice.get("type")
    if kind in ("function", freeform.KIND):
        return {"type": "function", "function": {"name": chat_name(choice)}}
    if kind == "allowed_tools":
        allowed = [choice_to_chat(tool) for tool in objects_in(choice.get("tools"))]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode"), "tools": allowed}}
    raise InvalidRequestError(f"'tool_choice' of type {kind!r:.40} names no function of yours", param="tool_choice")


def choice_from_chat(choice: object) -> object:
    """A ``tool_choice`` of chat as one of responses. Raises ``InvalidRequestError``."""
    if not is_object(choice):
        return choice
    kind = choice.get("type")
    if kind == "function":
        return {"type": "function", "name": as_object(choice.get("function")).get("name")}
    if kind == "allowed_tools":
        inner = as_object(choice.get("allowed_tools"))
        allowed = [choice_from_chat(tool) for tool in objects_in(inner.get("tools"))]
        return {"type": "allowed_tools", "mode": inner.get("mode"), "tools": allowed}
    raise InvalidRequestError(f"'tool_choice' of type {kind!r:.40} is not translated", param="tool_choice")


def format_to_chat(wanted: object) -> JsonObject | None:
    """``text.format`` as ``response_format``; ``None`` for plain text, which needs none."""
    form = as_object(wanted)
    kind = form.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    if kind == "json_schema":
        return {"type": "json_schema", "json_schema": without(form, "type")}
    raise InvalidRequestError(f"'text.format' of type {kind!r:.40} is unknown to chat models", param="text.format")


def format_from_chat(wanted: object) -> JsonObject:
    """``response_format`` as ``text.format``."""
    form = as_object(wanted)
    return {"type": form.get("type"), **as_object(form.get("json_schema"))}


def _functions_of(tool: JsonObject, where: str) -> list[JsonObject]:
    inside = ".tools[{}]" if tool.get("type") == NAMESPACE else ""
    return [_tool_to_chat(one, where + inside.format(index)) for index, one in enumerate(functions_in(tool))]


def _tool_to_chat(tool: JsonObject, where: str) -> JsonObject:
    kind = tool.get("type")
    if kind == freeform.KIND:
        return _tool_to_chat(freeform.as_function(tool), where)
    if kind == tool_search.KIND and tool_search.is_clients(tool):
        return _tool_to_chat(tool_search.as_function(tool), where)
    if kind != "function":
        raise InvalidRequestError(
            f"{where}: the model behind this gateway speaks chat completions, which have no tool of type {kind!r:.40}:"
            " leave it out, or use a function",
            param=where,
        )
    function = {name: tool[name] for name in _FUNCTION_KEYS if tool.get(name) is not None}
    if tool.get("strict"):
        function["strict"] = True
    return {"type": "function", "function": function, **without(tool, "type", "strict", _LATER, *_FUNCTION_KEYS)}


def _tool_from_chat(tool: JsonObject, where: str) -> JsonObject:
    kind = tool.get("type")
    if kind != "function":
        raise InvalidRequestError(f"{where}: a tool of type {kind!r:.40} is not translated", param=where)
    function = as_object(tool.get("function"))
    # The responses API takes a schema as strict unless it is told otherwise; chat does not.
    flat: JsonObject = {"type": "function", **function, "strict": bool(function.get("strict"))}
    flat.setdefault("parameters", None)
    return {**flat, **without(tool, "type", "function")}
