"""The pages of the web that an answer cites, both ways.

Owns the two shapes; refuses to know where they stand in an answer or a stream. Invariant: a citation keeps its address,
its title and its place in the text; of files and the like, which chat has no word for, none is made.
"""

from __future__ import annotations

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.reading import as_object, objects_in

_KIND = "url_citation"
_SAID = ("url", "title", "start_index", "end_index")


def citations_from_chat(message: JsonObject) -> list[JsonObject]:
    """The ``annotations`` of a chat message or delta, for an ``output_text`` part."""
    cited = [as_object(one.get(_KIND)) for one in objects_in(message.get("annotations")) if one.get("type") == _KIND]
    return [{"type": _KIND, **{key: one.get(key) for key in _SAID}} for one in cited]


def citations_to_chat(annotations: object) -> list[JsonObject]:
    """The ``annotations`` of a part, for a chat message."""
    cited = [one for one in objects_in(annotations) if one.get("type") == _KIND]
    return [{"type": _KIND, _KIND: {key: one.get(key) for key in _SAID}} for one in cited]
