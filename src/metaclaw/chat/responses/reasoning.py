"""What a model thought, as an item.

Owns the texts of reasoning items, the ``encrypted_content`` that we make, and taking both out of what goes to a model
that cannot have them; refuses to know who thought. Invariant: thinking that we gave a client comes back from it as the
same text, by whichever field it keeps.

Clients that keep no responses on the server ask for ``reasoning.encrypted_content`` and send it back (Codex keeps
nothing else). A chat model has its thinking in the open, so ours is that text, marked and in base64; of Anthropic's
models it is their blocks, whose seals they want back. What another provider encrypted cannot be read here.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_list, as_object, as_text, objects_in

ENCRYPTED = "reasoning.encrypted_content"
_OURS = "metaclaw:"
_BLOCKS = "metaclaw:blocks:"
_OUR_ID = re.compile(r"rs_[0-9a-f]{32}_[0-9]+")  # ``Envelope.item_id``
_REASONING = b'"reasoning"'


def wants_summary(request: JsonObject) -> bool:
    """Whether the client asked for thinking as a summary (what most programs show), rather than in full."""
    reasoning = as_object(request.get("reasoning"))
    return bool(reasoning.get("summary") or reasoning.get("generate_summary"))


def wants_sealed(request: JsonObject) -> bool:
    """Whether the client asked for what it can send back."""
    return ENCRYPTED in as_list(request.get("include"))


def reasoning_item(
    item_id: str, text: str, request: JsonObject, *, blocks: Sequence[JsonObject] = (), status: str = "completed"
) -> JsonObject:
    """``text``, and the sealed ``blocks`` that it came in, as the item that the client of ``request`` can use."""
    is_summary = wants_summary(request)
    item: JsonObject = {"id": item_id, "type": "reasoning", "summary": []}
    if text and is_summary:
        item["summary"] = [{"type": "summary_text", "text": text}]
    if not is_summary:
        item["content"] = [{"type": "reasoning_text", "text": text}] if text else []
    if (text or blocks) and wants_sealed(request):
        item["encrypted_content"] = _BLOCKS + _packed(json.dumps(blocks)) if blocks else _OURS + _packed(text)
    item["status"] = status
    return item


def text_of_reasoning(item: JsonObject) -> str:
    """What ``item`` says in the open; empty when all of it is another provider's secret."""
    for parts in (item.get("content"), item.get("summary")):
        if texts := [as_text(part.get("text")) for part in objects_in(parts)]:
            return "\n\n".join(texts)
    sealed = as_text(item.get("encrypted_content"))
    if sealed.startswith(_BLOCKS):
        return "".join(as_text(block.get("thinking")) for block in blocks_of_reasoning(item))
    return _unpacked(sealed.removeprefix(_OURS)) if sealed.startswith(_OURS) else ""


def blocks_of_reasoning(item: JsonObject) -> list[JsonObject]:
    """The sealed blocks that ``item`` brings back."""
    sealed = as_text(item.get("encrypted_content"))
    if not sealed.startswith(_BLOCKS):
        return []
    try:
        return objects_in(json.loads(_unpacked(sealed.removeprefix(_BLOCKS))))
    except (ValueError, RecursionError):
        return []


def _packed(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _unpacked(packed: str) -> str:
    try:
        return base64.b64decode(packed, validate=True).decode("utf-8", "surrogatepass")
    except (ValueError, UnicodeDecodeError):
        return ""


def without_own_reasoning(body: JsonObject, raw: bytes | None = None) -> JsonObject:
    """A request without the thinking that other models were given to say; ``body`` itself if there is none.

    OpenAI looks such an item up, or decrypts it, and refuses the conversation for ever. ``raw`` is its text.
    """
    if raw is not None and _REASONING not in raw:
        return body
    items = as_list(body.get("input"))
    kept = [item for item in items if not _is_own(as_object(item))]
    return body if len(kept) == len(items) else {**body, "input": kept}


def without_reasoning(body: JsonObject) -> JsonObject:
    """A request without any thinking. OpenAI's models take none back in the open ("array too long")."""
    return {**body, "input": [item for item in as_list(body.get("input")) if not _is_reasoning(as_object(item))]}


def _is_reasoning(item: JsonObject) -> bool:
    return item.get("type") == "reasoning"


def _is_own(item: JsonObject) -> bool:
    if not _is_reasoning(item):
        return False
    sealed, uid = as_text(item.get("encrypted_content")), as_text(item.get("id"))
    return sealed.startswith(_OURS) or (not sealed and _OUR_ID.fullmatch(uid) is not None)
