"""Tools that take free text (``custom``), as functions with one string.

Owns the two forms of such a tool and of what it is called with; refuses to know names and items. Invariant: a text that
was made an argument comes back as it was, and what a model gave in another form is handed on as it came: whoever runs
the tool says best what is wrong with it.

Codex edits files with one, ``apply_patch``. Nothing holds a chat model to its grammar, so the model is told of it.
"""

from __future__ import annotations

import json

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_object, as_text, without

KIND = "custom"
CALL = "custom_tool_call"
OUTPUT = "custom_tool_call_output"
_ARGUMENT = "input"
_PARAMETERS: JsonObject = {
    "type": "object",
    "properties": {_ARGUMENT: {"type": "string", "description": "the whole text, exactly as the tool takes it"}},
    "required": [_ARGUMENT],
    "additionalProperties": False,
}
# Descriptions say that the text goes without JSON (that of apply_patch does), which is so only without a function.
_HOW = f"What is said here of free text is about the string that goes into {_ARGUMENT!r}."


def as_function(tool: JsonObject) -> JsonObject:
    """A tool that takes free text, as a function of responses."""
    form = as_object(tool.get("format"))
    said = [as_text(tool.get("description")), _HOW]
    if definition := as_text(form.get("definition")):
        said.append(f"It follows this grammar ({as_text(form.get('syntax')) or 'unnamed'}):\n{definition}")
    return {
        **without(tool, "format"),
        "type": "function",
        "description": "\n\n".join(filter(None, said)),
        "parameters": _PARAMETERS,
    }


def as_arguments(text: object) -> str:
    """The arguments of the function that is called with ``text``."""
    return json.dumps({_ARGUMENT: as_text(text)}, ensure_ascii=False)


def text_of(arguments: str) -> str:
    """The text that a model's ``arguments`` hold; they themselves where they are not as they were asked for."""
    try:
        given = as_object(json.loads(arguments)).get(_ARGUMENT)
    except (ValueError, RecursionError):
        return arguments
    return given if isinstance(given, str) else arguments
