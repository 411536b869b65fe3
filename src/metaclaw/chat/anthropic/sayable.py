"""What of an Anthropic request's conversation chat has no words for.

Owns the refusals; refuses to know how the rest is said. Invariant: what passes here loses nothing that the model is
told, but for thinking that is sealed (signatures and redacted blocks), which no other model can read.
"""

from __future__ import annotations

from metaclaw.chat.anthropic.blocks import is_sayable
from metaclaw.chat.anthropic.fields import is_object, listed, object_in, unsaid
from metaclaw.chat.messages import JsonObject
from metaclaw.errors import InvalidRequestError

TO = "OpenAI's chat"

_OF_AN_ANSWER = ("text", "thinking", "redacted_thinking", "tool_use")


def require_sayable(body: JsonObject) -> None:
    """Raise ``InvalidRequestError`` with the path of the first block that chat cannot say."""
    for number, block in enumerate(listed(body.get("system"))):
        _require(block, ("text",), f"system[{number}]")
    for index, message in enumerate(listed(body.get("messages"))):
        is_answer = object_in(message).get("role") == "assistant"
        for number, block in enumerate(listed(object_in(message).get("content"))):
            param = f"messages[{index}].content[{number}]"
            _require_of_answer(block, param) if is_answer else _require_of_user(block, param)


def _require_of_answer(block: object, param: str) -> None:
    _require(block, _OF_AN_ANSWER, param)
    if object_in(block).get("toolset_name"):
        raise unsaid(f"{param}.toolset_name", "a call of a toolset", TO)


def _require_of_user(block: object, param: str) -> None:
    found = object_in(block)
    if found.get("type") != "tool_result":
        _require_part(block, param)
        return
    for number, inner in enumerate(listed(found.get("content"))):
        _require_part(inner, f"{param}.content[{number}]")


def _require_part(block: object, param: str) -> None:
    _require(block, ("text", "image", "document"), param)
    found = object_in(block)
    if object_in(found.get("citations")).get("enabled"):
        raise unsaid(f"{param}.citations", "the wish that an answer cites it", TO)
    if found.get("transformations"):
        raise unsaid(f"{param}.transformations", "how a picture is to be changed", TO)
    if not is_sayable(found):
        kind, source = found.get("type"), object_in(found.get("source")).get("type")
        raise unsaid(f"{param}.source", f"{kind} with a source of type {source!r:.80}", TO)


def _require(block: object, kinds: tuple[str, ...], param: str) -> None:
    if not is_object(block):
        raise InvalidRequestError(f"{param} must be a content block, which is an object with a 'type'", param=param)
    kind = object_in(block).get("type")
    if kind not in kinds:
        raise unsaid(param, f"a block of type {kind!r:.80}", TO)
