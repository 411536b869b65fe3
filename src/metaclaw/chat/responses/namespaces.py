"""Tools that stand in a namespace, under the one name that chat has for each.

Owns the two forms of such a name; refuses to know what the tools do. Invariant: a name that chat was given comes
back as the tool of the request that it was made of, and a tool without a namespace keeps its name.

Codex puts the tools of each MCP server, and those for its own helpers, into namespaces.
"""

from __future__ import annotations

from dataclasses import dataclass

from metaclaw.chat.messages import JsonObject, short_name
from metaclaw.chat.reading import as_text, objects_in
from metaclaw.chat.responses import tool_search

KIND = "namespace"
_BETWEEN = "__"


def chat_name(function: JsonObject, namespace: object = None) -> str:
    """The name of a function, or of the one that an item calls, in chat."""
    name, space = as_text(function.get("name")), as_text(namespace or function.get(KIND))
    if not space:
        return name
    return short_name(f"{space.removesuffix(_BETWEEN)}{_BETWEEN}{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTool:
    """A tool as its request has it: ``named`` holds its ``name`` and its ``namespace`` where it has them."""

    kind: str
    named: JsonObject


def own_tool(called: str, request: JsonObject) -> OwnTool:
    """The tool that chat ``called``, also one that was found; a function of that name where the request has none."""
    for tool in [*objects_in(request.get("tools")), *tool_search.found_in(request)]:
        if tool.get("type") == tool_search.KIND and called == tool_search.KIND:
            return OwnTool(kind=tool_search.KIND, named={})
        if tool.get("type") == KIND:
            for inner in objects_in(tool.get("tools")):
                if chat_name(inner, tool.get("name")) == called:
                    named = {"name": as_text(inner.get("name")), KIND: as_text(tool.get("name"))}
                    return OwnTool(kind=as_text(inner.get("type")), named=named)
        elif chat_name(tool) == called:
            return OwnTool(kind=as_text(tool.get("type")), named={"name": called})
    return OwnTool(kind="function", named={"name": called})


def functions_in(tool: JsonObject) -> list[JsonObject]:
    """The tools of a namespace, under their names in chat; a tool that is none is its own.

    What is said of the namespace, for example how its server is used, the first of them says.
    """
    if tool.get("type") != KIND:
        return [tool]
    tools = [{**inner, "name": chat_name(inner, tool.get("name"))} for inner in objects_in(tool.get("tools"))]
    if tools and (about := as_text(tool.get("description"))):
        said = f"Of all tools of {as_text(tool.get('name')).removesuffix(_BETWEEN)}: {about}"
        tools[0]["description"] = "\n\n".join(filter(None, (as_text(tools[0].get("description")), said)))
    return tools
