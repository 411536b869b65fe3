"""What the writing systems of the world ask of whoever looks for words.

Owns one spelling of a character and the classes of characters; refuses to know what a word is worth. Invariant:
spelled twice is spelled once, and a letter keeps the marks without which it is another letter.
"""

from __future__ import annotations

import re
import unicodedata

# Marks stand inside words (vowels of Hindi or Thai) but are no letters to `re`. Blocks without any are not searched.
_BLOCKS_WITH_MARKS = (
    (0x0300, 0x1E00), (0x20D0, 0x2100), (0x2CE0, 0x3100), (0xA600, 0xAC00), (0xFB1E, 0xFB1F), (0xFE20, 0xFE30),
    (0x10A00, 0x11FFF),
)  # fmt: skip
# What many writers leave out: accents of Latin, Greek and Cyrillic, the vowel signs of Arabic and Hebrew.
_LEFT_OUT = re.compile("[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u00ad\u200c\u200d\ufeff]+")
_ARABIC = str.maketrans({"\u0649": "\u064a", "\u0629": "\u0647", "\u06a9": "\u0643", "\u06cc": "\u064a"})


def _ranges(codes: list[int]) -> str:
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_MARKS = _ranges(
    [
        code
        for first, end in _BLOCKS_WITH_MARKS
        for code in range(first, end)
        if unicodedata.category(chr(code))[0] == "M"
    ]
)
WORD = re.compile(f"(?:[^\\W_]|[{_MARKS}])+")

# Scripts that put no blanks between words, or, as Korean, put much behind them.
_UNSPACED = (
    ("han", "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"),
    ("hiragana", "\u3041-\u309f"),
    ("katakana", "\u30a0-\u30ff\u31f0-\u31ff"),
    ("hangul", "\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff"),
    ("thai", "\u0e00-\u0e7f"),
    ("lao", "\u0e80-\u0eff"),
    ("tibetan", "\u0f00-\u0fff"),
    ("burmese", "\u1000-\u109f\uaa60-\uaa7f"),
    ("khmer", "\u1780-\u17ff"),
    ("javanese", "\ua980-\ua9df"),
)
RUNS = re.compile("|".join(f"(?P<{name}>[{chars}]+)" for name, chars in _UNSPACED) + "|(?P<spaced>.)", re.DOTALL)
# A letter with the marks that belong to it.
CLUSTER = re.compile(f".[{_MARKS}]*", re.DOTALL)


def one_spelling(text: str) -> str:
    """``text`` without what differs between two spellings of the same words: case, width, accents, short vowels."""
    if text.isascii():
        return text.lower()
    # Taken apart, so that accents come off; put together again, because Korean syllables came apart too.
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    bare = _LEFT_OUT.sub("", apart)
    return unicodedata.normalize("NFKC", bare).translate(_ARABIC)
