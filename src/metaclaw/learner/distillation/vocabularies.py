"""Whether two models mean the same by a token's number.

Owns the comparison of the tokens' texts; refuses to know tokenizers and servers. Invariant: what cannot be told is no
evidence either way, and without evidence the answer is no.
"""

from __future__ import annotations

from collections.abc import Mapping

_SAME_SHARE = 0.95  # servers write some tokens in ways of their own; other vocabularies agree on next to nothing
_SHOWN = 3
_SPACES = str.maketrans({"▁": " ", "Ġ": " ", "Ċ": "\n"})


def difference(own: Mapping[int, str], other: Mapping[int, str]) -> str | None:
    """How the two differ on the tokens that both name, in words; ``None`` when they are the same vocabulary."""
    pairs = {token: (_plain(own[token]), _plain(other[token])) for token in own.keys() & other.keys()}
    told = {token: pair for token, pair in pairs.items() if all(map(_is_told, pair))}
    if not told:
        return "no token could be compared"
    apart = {token: pair for token, pair in sorted(told.items()) if pair[0] != pair[1]}
    if len(apart) <= (1 - _SAME_SHARE) * len(told):
        return None
    shown = ", ".join(
        f"{token} is {mine!r} here and {its!r} there" for token, (mine, its) in list(apart.items())[:_SHOWN]
    )
    return f"{len(apart)} of {len(told)} tokens are others ({shown})"


def _plain(name: str) -> str:
    return name.translate(_SPACES).strip()


def _is_told(name: str) -> bool:
    """Not of a part of a character, which every server writes as it likes, nor of blanks."""
    return bool(name) and "�" not in name and not name.startswith(("bytes:", "<0x"))
