"""Words by which people speak of themselves.

Owns the list; refuses to know what is compared. Invariant: it is of words, in the languages that they are known in;
elsewhere there are none.
"""

from __future__ import annotations

import re

_OWN = re.compile(
    r"\b(?:i|me|my|mine|we|us|our|ours|ich|mich|mir|wir|uns|mein\w{0,2}|unse?re?\w{0,2}|je|j|moi|mon|ma|mes|nous|notre|"
    r"nos|yo|mi|mis|mío|mía|conmigo|nosotr[oa]s|nuestr[oa]s?|eu|meus?|minhas?|nossos?|nossas?|io|mio|mia|miei|noi|nostr[oaie]|"
    r"ik|mij|mijn|wij|ons|onze|я|меня|мне|мной|мо[йяеёи]|мо(?:его|ей|ему|их|им|ими|ю)|мы|нас|нам|нами|наш\w{0,3})\b"
    r"|[我咱俺]|私|僕|うち|나는|내가|저는|제가|우리",
    re.IGNORECASE,
)


def speaks_of_oneself(text: str) -> bool:
    """Whether ``text`` has an "I", a "my", a "we" or an "our"."""
    return _OWN.search(text) is not None
