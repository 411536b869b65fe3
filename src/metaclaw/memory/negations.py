"""Words that turn a statement round.

Owns the list; refuses to know what is compared. Invariant: it is of words and endings, in the languages that they are
known in; elsewhere there are none.
"""

from __future__ import annotations

import re

_NEGATION = re.compile(
    r"\b(?:not|no|never|none|without|nothing|nobody|cannot|\w+n[’']t|nichts?|niemand\w*|kein\w*|nie|niemals|ohne|non|nunca|jamás|sin|nada|nadie|ne|pas|jamais|rien|"
    r"sans|mai|senza|não|sem|не|нет|ничего|никогда|без)\b|[不没沒別别勿無未]|ない|ません|ぬ|않|못|없",
    re.IGNORECASE,
)


def num_negations(text: str) -> int:
    """How many negations ``text`` holds."""
    return len(_NEGATION.findall(text))
