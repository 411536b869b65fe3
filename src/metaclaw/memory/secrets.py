"""Secrets in a text: keys, passwords, cards, accounts.

Owns how they are recognised and what stands in their place; refuses to know what the text is for. Invariant: it errs on
the side of a secret: a harmless number that is left out costs a memory, a key that is kept costs the user. No function
here returns or logs what it found.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

MARK = "\u27e6secret\u27e7"  # nobody types it, so a sentence that holds it held a secret

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z ]*PRIVATE KEY[A-Z ]*-----|\Z)", re.DOTALL)  # fmt: skip
# Keys that say whose they are.
_KNOWN_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{8,}|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{8,}|(?:AKIA|ASIA)[0-9A-Za-z]{12,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{12,}|xox[abprse]-[A-Za-z0-9-]{8,}"
    r"|AIza[0-9A-Za-z_-]{20,}|ya29\.[0-9A-Za-z_-]{16,}|hf_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{20,}|pypi-[A-Za-z0-9_-]{16,}"
    r"|tml-[A-Za-z0-9_-]{8,}|SG\.[A-Za-z0-9_-]{16,}|dop_v1_[A-Za-z0-9]{16,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"
    r"|(?:[0-9]{8,10}:AA[A-Za-z0-9_-]{20,})|AGE-SECRET-KEY-[A-Za-z0-9]{16,})"
)
_IN_URL = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/@:]{0,64}:[^\s/@]+@\S*"
    r"|[?&#](?:access_token|refresh_token|id_token|token|api_?key|key|secret|sig|signature|password|pwd|auth|code)=[^\s&#]+",
    re.IGNORECASE,
)
_HEADER = re.compile(r"\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)

# What is called a secret, and then its value. The value may be any word: the worst passwords are words.
_NAME = (
    r"(?:pass ?words?|pass ?phrases?|pass ?codes?|passwd|pwd|pins?(?:[ -]?(?:code|number))?|cvv2?|cvc|api[ _-]?(?:key|token)s?|access[ _-]?(?:key|token)s?"
    r"|secret(?:[ _-]?(?:key|access[ _-]?key|token|word))?s?|auth(?:entication)?[ _-]?tokens?|private[ _-]?keys?|recovery[ _-]?(?:code|phrase|key)s?"
    r"|(?:seed|recovery|mnemonic)[ _-]?phrases?|security[ _-]?(?:code|number)s?|social[ _-]?security(?:[ _-]?number)?|ssn"
    r"|passw(?:o|ö)rt(?:er)?|kennwort|zugangscode|geheimzahl|geheimnummer"
    r"|contraseñas?|contrasenas?|clave(?: secreta| de acceso)?|código secreto|mots? de passe|code secret|code pin|senhas?|parole? d['’]ordine)"
)
_NAME_UNSPACED = r"(?:密[码碼]|口令|密[钥鑰]|验证码|驗證碼|パスワード|暗証番号|パスコード|合言葉|비밀번호)"
_IS = r"(?:\s*(?:=|:|：|->|→)\s*|\s+(?:is|are|was|ist|lautet|war|es|est|era|sera|é|to|as)\s+(?:now\s+|still\s+|jetzt\s+|ahora\s+)?[:=]?\s*)"
_NAMED = re.compile(
    rf"(?<![^\W_]){_NAME}(?:\s+(?!is\b|are\b|was\b|ist\b|es\b|est\b)[\w.@'’-]+){{0,5}}?{_IS}[^\n]{{1,200}}",
    re.IGNORECASE,
)
_NAMED_UNSPACED = re.compile(rf"{_NAME_UNSPACED}.{{0,12}}?(?:是|为|為|は|が|[:：=])\s*[^\n。]{{1,80}}")
_NAMED_NUMBER = re.compile(r"\b(?:pin|cvv2?|cvc|geheimzahl)\b\D{0,12}[0-9][0-9 -]{2,9}", re.IGNORECASE)

_CARD = re.compile(r"(?<![0-9])(?:[0-9][ -]?){12,18}[0-9](?![0-9])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{2,4}){3,8}(?![a-z])")
_SSN = re.compile(r"(?<![0-9-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![0-9-])")

_WORD = re.compile(r"[A-Za-z0-9+/=_-]{16,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MIN_BITS = 3.3  # a character; English words joined by dashes have less digits, keys have more


def redact(text: str) -> tuple[str, int]:
    """``text`` with every secret replaced by ``MARK``, and how many there were."""
    spans = _merged(sorted(_spans(text)))
    parts: list[str] = []
    end = 0
    for start, stop in spans:
        parts += (text[end:start], MARK)
        end = stop
    return "".join((*parts, text[end:])), len(spans)


def holds_secret(text: str) -> bool:
    """Whether there is a secret in ``text``, or the mark of one."""
    return MARK in text or next(_spans(text), None) is not None


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for pattern in (_PRIVATE_KEY, _KNOWN_KEY, _IN_URL, _HEADER, _NAMED, _NAMED_UNSPACED, _NAMED_NUMBER, _SSN):
        yield from (match.span() for match in pattern.finditer(text))
    yield from (match.span() for match in _CARD.finditer(text) if _is_card(match[0]))
    yield from (match.span() for match in _IBAN.finditer(text) if _is_iban(match[0]))
    yield from (match.span() for match in _WORD.finditer(text) if _is_random(match[0]))


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _is_card(text: str) -> bool:
    digits = [int(char) for char in text if char.isdigit()]
    doubled = [digit if index % 2 == 0 else (2 * digit - 9 if digit > 4 else 2 * digit) for index, digit in enumerate(reversed(digits))]  # fmt: skip
    return len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    # What follows it in capitals or digits may have been taken along: a prefix that checks out is enough.
    compact = text.replace(" ", "")
    return any(_iban_checks(compact[:length]) for length in range(15, min(len(compact), 34) + 1))


def _iban_checks(compact: str) -> bool:
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def _is_random(word: str) -> bool:
    core = word.strip("=-_/+")
    if len(core) < 16 or _UUID.fullmatch(core):
        return False
    digits = sum(char.isdigit() for char in core)
    has_both_cases = any(char.islower() for char in core) and any(char.isupper() for char in core)
    if digits < 2 or digits == len(core) or (len(core) < 20 and not has_both_cases):
        return False
    if re.fullmatch(r"[0-9a-fA-F]{20,}", core):
        return True
    # Names and paths are words with separators; a key has digits strewn in between the letters.
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(core))
    bits = -sum(n / len(core) * math.log2(n / len(core)) for n in Counter(core).values())
    return bits > _MIN_BITS and changes >= 4
