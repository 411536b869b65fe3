"""What our entries leave behind in a file that its user edited meanwhile, once they are taken out.

Owns the layout around them: a group that held nothing, the end of the last line; refuses to know which entries those
were and what the user wrote. Invariant: what comes out of here reads as what was given, but for groups that held
nothing and hold nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable

from metaclaw.agents.documents import document
from metaclaw.agents.documents.document import Format, Place


def as_written_before(form: Format, text: str, connected: str, original: str, places: Iterable[Place]) -> str:
    """``text`` with empty groups above ``places``, and its end, written as in ``original``. Raises ``ValueError``.

    ``connected`` is ``text`` with our entries.
    """
    if not original.strip() and text.strip() in ("", "{}"):
        return original
    was = form.read(original)
    groups = {place[:depth] for place in places for depth in range(1, len(place))}
    for group in sorted(groups, key=len):
        is_empty_again = document.value_at(form.read(text), group) == {}
        if is_empty_again and document.value_at(was, group) is None:
            text = document.put_source(form, text, group, form.source(original, group), None)
    return _ended_as(original, text, connected)


def _ended_as(original: str, text: str, connected: str) -> str:
    """Without the end of the last line, where it had none until a line of ours followed it."""
    had_an_end = not original or original.endswith(("\n", "\r"))
    if had_an_end or text.splitlines()[-1:] == connected.splitlines()[-1:]:
        return text
    return text.removesuffix("\n").removesuffix("\r")
