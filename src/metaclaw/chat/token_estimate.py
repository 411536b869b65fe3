"""How many tokens a text takes, without a tokenizer.

Owns the estimate; refuses to know models. Invariant: it is one pass over the bytes at the speed of C, and on ordinary
text rather too high than too low, because budgets and context limits are bounds.

Measured in November 2026 against cl100k, o200k and the tokenizer that Anthropic published: 1.4 to 1.7 times their count
on English and code, 1.1 to 1.6 times the highest of them on Chinese, Japanese, Korean, Russian, Arabic, German and
tables of numbers. Random text (base64, rare characters) may take half as many again as estimated.
"""

from __future__ import annotations

# Twelfths of a token for each character of a kind, and the bytes by which it is known (of UTF-8, the first).
_KINDS = (
    (12, bytes(range(ord("0"), ord("9") + 1))),  # some tokenizers have a token for each digit
    (8, b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
    (15, bytes(range(0xC2, 0xE0))),  # accents, Greek, Cyrillic, Hebrew, Arabic
    (20, bytes(range(0xE0, 0xF0))),  # CJK, India, Thai
    (36, bytes(range(0xF0, 0xF5))),  # emoji, rare ideographs
)
_ENGLISH, _OTHER = 4, 5  # twelfths for each letter and space of ASCII, in English and in other languages
_FEW = 50  # a character in so many that is not ASCII does not make it another language
_CONTINUING = bytes(range(0x80, 0xC0))
_NOT_ASCII = bytes(range(0x80, 0x100))


def estimate_tokens(text: str) -> int:
    """About how many tokens ``text`` takes."""
    raw = text.encode("utf-8", "replace")
    left = raw.translate(None, _CONTINUING)
    num_characters, num_ascii = len(left), len(raw.translate(None, _NOT_ASCII))
    twelfths = 0
    for weight, characters in _KINDS:
        rest = left.translate(None, characters)
        twelfths += weight * (len(left) - len(rest))
        left = rest
    is_english = (num_characters - num_ascii) * _FEW <= num_characters
    return -(-(twelfths + len(left) * (_ENGLISH if is_english else _OTHER)) // 12)
