"""A chat request as one text that a vendor's command-line program takes.

Owns what such a program can be asked; refuses to know which one it is. Invariant: what it cannot be asked is an
``InvalidRequestError`` that names it, and no text of a conversation stands where a program would read a command.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from metaclaw.chat.messages import JsonObject, object_or_none, text_of
from metaclaw.chat.reading import writable
from metaclaw.errors import InvalidRequestError

_SYSTEM_ROLES = ("system", "developer")
_COMMAND_STARTS = ("/", "!", "#", "@", "-")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*")
_INSTRUCTION = "Below is a conversation so far. Write the assistant's next message, and nothing else.\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class CliPrompt:
    """``text`` goes to standard input, ``system`` into a file; ``model`` is empty for the program's own choice."""

    system: str
    text: str
    model: str
    is_stream: bool
    wants_usage: bool


def cli_prompt(body: JsonObject, name: str) -> CliPrompt:
    """What to ask the program called ``name``."""
    _refuse_what_it_lacks(body, name)
    messages = [cast(JsonObject, message) for message in cast(list[object], body.get("messages") or [])]
    for index, message in enumerate(messages):
        _require_text(index, message, name)
    system = [text_of(message.get("content")) for message in messages if message.get("role") in _SYSTEM_ROLES]
    turns = [message for message in messages if message.get("role") not in _SYSTEM_ROLES]
    if not turns:
        raise InvalidRequestError(f"{name} needs a message that is not the system's", param="messages")
    model = str(body.get("model") or "")
    if model and not _MODEL.fullmatch(model):
        raise InvalidRequestError(f"'model' {model!r:.80} is no name of a model", param="model")
    return CliPrompt(
        system=writable("\n\n".join(system)),
        text=writable(_conversation(turns)),
        model=model,
        is_stream=body.get("stream") is True,
        wants_usage=bool((object_or_none(body.get("stream_options")) or {}).get("include_usage")),
    )


def _refuse_what_it_lacks(body: JsonObject, name: str) -> None:
    for key in ("tools", "functions", "logprobs", "top_logprobs", "stop", "modalities", "audio"):
        if body.get(key):
            raise InvalidRequestError(f"{name} runs a subscription's own program, which takes no {key!r}", param=key)
    if body.get("n") not in (None, 1):
        raise InvalidRequestError(f"{name} runs a subscription's own program, which gives one answer", param="n")
    if (object_or_none(body.get("response_format")) or {}).get("type") not in (None, "text"):
        raise InvalidRequestError(f"{name} cannot promise a format of its answer", param="response_format")


def _require_text(index: int, message: JsonObject, name: str) -> None:
    where = f"messages[{index}]"
    if message.get("role") == "tool" or message.get("tool_calls"):
        raise InvalidRequestError(f"{name} takes no tool calls, which {where} has", param=where)
    content: Any = message.get("content")
    if isinstance(content, list):
        for part in cast(list[object], content):
            kind = cast(JsonObject, part).get("type") if isinstance(part, dict) else None
            if kind not in ("text", "input_text", "output_text"):
                raise InvalidRequestError(f"{name} takes text only; {where} has {kind!r}", param=f"{where}.content")


def _conversation(turns: Sequence[JsonObject]) -> str:
    texts = [(str(turn.get("role")), text_of(turn.get("content"))) for turn in turns]
    if len(texts) == 1 and not texts[0][1].lstrip().startswith(_COMMAND_STARTS):
        return texts[0][1]
    return _INSTRUCTION + "\n\n".join(f"{role.capitalize()}:\n{text}" for role, text in texts)
