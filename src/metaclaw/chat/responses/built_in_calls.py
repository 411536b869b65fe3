"""Calls of tools that OpenAI defines and the client runs: its shell, its patches, a computer.

Owns how they read as calls of functions; refuses to know what runs them. Invariant: the same call reads the same when
the model makes it and when the client sends it back, whatever the client leaves out that says nothing.

A model that does not know these tools cannot be told of them; but what was done with them is recorded, and an answer
that makes such a call has not ended its exchange.
"""

from __future__ import annotations

import json

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_object, as_text, objects_in

_OF_A_CALL = "_call"
KINDS = tuple(name + _OF_A_CALL for name in ("shell", "local_shell", "apply_patch", "computer"))
_SAID = ("action", "actions", "operation")


def as_called(item: JsonObject) -> JsonObject:
    """The item of such a call as that of a function's."""
    said = {name: _said(item[name]) for name in _SAID if item.get(name) is not None}
    name = as_text(item.get("type")).removesuffix(_OF_A_CALL)
    return {**item, "name": name, "arguments": json.dumps(said, ensure_ascii=False, sort_keys=True)}


def waiting_in(output: object) -> bool:
    """Whether one of these calls in an answer waits for its result: a provider may run it, and says so at once."""
    items = objects_in(output)
    done = {item.get("call_id") for item in items if as_text(item.get("type")).endswith("_output")}
    return any(item.get("type") in KINDS and item.get("call_id") not in done for item in items)


def _said(value: object) -> object:
    return {key: one for key, one in as_object(value).items() if one is not None} or value
