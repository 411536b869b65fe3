"""What is looked for.

Owns the texts that a human's message is searched by; refuses to know how. Invariant: they are the human's own words:
nothing that a program wrote is ever looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metaclaw.chat.humans import human_text
from metaclaw.chat.messages import JsonObject
from metaclaw.recall.blocks import HumanMessage

_QUERY_END = 4000  # characters
_SHORT = 60  # characters of "and the second one?" and the like
_ASKING = ("?", "\uff1f", "\u061f", "\u037e")  # also in Chinese and Japanese, Arabic, Greek


def queries(messages: Sequence[JsonObject], humans: Sequence[HumanMessage]) -> Iterator[str]:
    """What to look for, for the newest of ``humans``: one text after another, until something is found.

    A short question that finds nothing by itself goes on about the message before it: that comes second, with it.
    """
    text = human_text(messages[humans[-1].index])
    if not text.strip():
        return
    yield _cut(text)
    if len(humans) > 1 and len(text) <= _SHORT and text.rstrip().endswith(_ASKING):
        yield f"{_cut(human_text(messages[humans[-2].index]))}\n{text}"


def _cut(text: str) -> str:
    # Whoever pastes a long text says before or after it what to do; ranking a megabyte would hold up every other turn.
    return text if len(text) <= 2 * _QUERY_END else f"{text[:_QUERY_END]}\n{text[-_QUERY_END:]}"
