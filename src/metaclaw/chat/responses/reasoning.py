"""What a model thought, as an item.

Owns the texts of reasoning items and the ``encrypted_content`` that we make; refuses to know who thought.
Invariant: thinking that we gave a client comes back from it as the same text, by whichever field it keeps.

Clients that keep no responses on the server ask for ``reasoning.encrypted_content`` and send it back (Codex keeps
nothing else). A chat model has its thinking in the open, so ours is that text, marked and in base64. What another
provider encrypted cannot be read here.
"""

from __future__ import annotations

import base64
import binascii

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_list, as_object, as_text, objects_in

ENCRYPTED = "reasoning.encrypted_content"
_OURS = "metaclaw:"


def wants_summary(request: JsonObject) -> bool:
    """Whether the client asked for thinking as a summary (what most programs show), rather than in full."""
    reasoning = as_object(request.get("reasoning"))
    return bool(reasoning.get("summary") or reasoning.get("generate_summary"))


def reasoning_item(item_id: str, text: str, request: JsonObject, *, status: str = "completed") -> JsonObject:
    """``text`` as the item that the client of ``request`` can use."""
    is_summary = wants_summary(request)
    item: JsonObject = {"id": item_id, "type": "reasoning", "summary": []}
    if text and is_summary:
        item["summary"] = [{"type": "summary_text", "text": text}]
    if not is_summary:
        item["content"] = [{"type": "reasoning_text", "text": text}] if text else []
    if text and ENCRYPTED in as_list(request.get("include")):
        item["encrypted_content"] = _OURS + base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
    item["status"] = status
    return item


def text_of_reasoning(item: JsonObject) -> str:
    """What ``item`` says in the open; empty when all of it is another provider's secret."""
    for parts in (item.get("content"), item.get("summary")):
        if texts := [as_text(part.get("text")) for part in objects_in(parts)]:
            return "\n\n".join(texts)
    sealed = as_text(item.get("encrypted_content"))
    if not sealed.startswith(_OURS):
        return ""
    try:
        return base64.b64decode(sealed.removeprefix(_OURS), validate=True).decode("utf-8", "surrogatepass")
    except (binascii.Error, UnicodeDecodeError):
        return ""
