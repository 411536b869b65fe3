"""A search for further tools that the client makes (``tool_search``), as a function; and the tools that it found.

Owns the two forms of the search and of its call, and what a request offers beside its own tools; refuses to know how
tools are named. Invariant: a tool that was found can be called from then on, as if it had been offered from the start.

Codex offers the tools of its MCP servers so where there are many.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_text, objects_in

KIND = "tool_search"
CALL = "tool_search_call"
OUTPUT = "tool_search_output"
ADDED = "additional_tools"
_BY_CLIENT = "client"


def is_clients(one: JsonObject) -> bool:
    """Whether the client makes the search of this tool or item; else the provider does."""
    return one.get("execution") == _BY_CLIENT


def as_function(tool: JsonObject) -> JsonObject:
    """The search as a function of responses."""
    given = {name: tool.get(name) for name in ("description", "parameters")}
    return {"type": "function", "name": KIND, **given}


def as_called(item: JsonObject) -> JsonObject:
    """The item of a search as that of a function's call."""
    return {**item, "name": KIND, "arguments": json.dumps(item.get("arguments") or {}, ensure_ascii=False)}


def call_of(arguments: str) -> JsonObject:
    """What a model's ``arguments`` make of a search; as they came where they are no JSON."""
    try:
        wanted: object = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        wanted = arguments
    return {"execution": _BY_CLIENT, "arguments": wanted}


def said_of(names: Sequence[str]) -> str:
    """What the model is told that a search found."""
    return "\n".join(["These tools can be called now:", *names]) if names else "No tool was found."


def found_in(request: JsonObject) -> list[JsonObject]:
    """The tools that searches found or that were added on the way, in order, perhaps again and again."""
    outputs = [item for item in objects_in(request.get("input")) if as_text(item.get("type")) in (OUTPUT, ADDED)]
    return [tool for output in outputs for tool in objects_in(output.get("tools"))]
