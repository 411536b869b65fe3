"""What a language's rules are made of.

Owns the form; refuses to know any language. Invariant: a rule looks where a clause begins, so that what is only thought,
feared or told by somebody else is not taken for a fact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from metaclaw.memory.units import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """``pattern`` finds a statement of ``kind``. ``subject`` names what it is about where that has one value only;
    a group ``subject`` in the pattern is put after it. ``is_standing``: so it is to be done whatever is asked.
    """

    kind: Kind
    pattern: re.Pattern[str]
    subject: str = ""
    confidence: float = 0.75
    is_standing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """``doubtful`` finds questions, hypotheses and what others said; ``asked`` is "remember that", then the fact.

    ``own`` finds who speaks (I, we, my): with a day in the sentence that is an event. ``at_hand`` finds what points at
    something that one conversation has before it ("this function", "tomorrow"): no wish for another one.
    """

    name: str
    doubtful: re.Pattern[str]
    asked: re.Pattern[str]
    own: re.Pattern[str]
    at_hand: re.Pattern[str]
    rules: tuple[Rule, ...]


def words(pattern: str) -> re.Pattern[str]:
    """A pattern that does not tell capitals from others."""
    return re.compile(pattern, re.IGNORECASE)
