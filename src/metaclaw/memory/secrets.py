"""Secrets in a text: keys, passwords, cards, accounts.

Owns what they look like and what stands in their place; refuses to know what the text is for, and what people call a
secret. Invariant: it errs on the side of a secret: a harmless number that is left out costs a memory, a key that is kept
costs the user. No function here returns or logs what it found.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from metaclaw.memory.secret_names import named_spans

MARK = "\u27e6secret\u27e7"  # nobody types it, so a sentence that holds it held a secret

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z ]*PRIVATE KEY[A-Z ]*-----|\Z)", re.DOTALL)  # fmt: skip
# Keys that say whose they are.
_KNOWN_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{8,}|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{8,}|(?:AKIA|ASIA)[0-9A-Za-z]{12,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{12,}|xox[abprse]-[A-Za-z0-9-]{8,}"
    r"|AIza[0-9A-Za-z_-]{20,}|ya29\.[0-9A-Za-z_-]{16,}|GOCSPX-[0-9A-Za-z_-]{10,}|hf_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{20,}|pypi-[A-Za-z0-9_-]{16,}"
    r"|(?:gsk|r8|sbp|whsec|shpat|shpss|glsa|lin_api|figd|dckr_pat|ntn|dapi|secret|fw|csk)_[A-Za-z0-9]{16,}|(?:xai|pplx|tvly|nvapi|jina|co)-[A-Za-z0-9_-]{16,}"
    r"|tml-[A-Za-z0-9_-]{8,}|SG\.[A-Za-z0-9_-]{16,}|dop_v1_[A-Za-z0-9]{16,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"
    r"|(?:AC|SK)[0-9a-f]{32}|(?:[0-9]{8,10}:AA[A-Za-z0-9_-]{20,})|AGE-SECRET-KEY-[A-Za-z0-9]{16,})"
)
_IN_URL = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/@:]{0,64}:[^\s/@]+@\S*|hooks\.slack\.com/\S+|discord(?:app)?\.com/api/webhooks/\S+"
    r"|[?&#](?:access_token|refresh_token|id_token|token|api_?key|key|secret|sig|signature|password|pwd|auth|code)=[^\s&#]+",
    re.IGNORECASE,
)
# As programs are told them: settings, environments, arguments.
_ASSIGNED = re.compile(
    r"(?<![^\W_])(?:(?:[\w.-]{0,40}[_.-])?pass|[\w.-]{0,40}(?:password|passwd|passphrase|pwd|secret|credentials?|[_-]token|authtoken|(?:api|access|account|shared|secret|private|client|"
    r"encryption|signing|master|deploy)[_-]?key(?:-data)?))[\"']?\s?(?:=|:)\s?[^\s=:][^\s;]*(?:[^\n;]{0,80}(?=[\"']))?"
    r"|\"auth\"\s*:\s*\"[^\"]+\"|\btoken\s?[:=]\s?[\"']?[^\s\"']{6,}",
    re.IGNORECASE,
)
_ARGUMENT = re.compile(
    r"(?<!\S)(?:-u|--user)[ =]?[^\s:]+:\S+|\b(?:mysql|mysqldump|sshpass)\b[^\n]{0,200}?\s-p\S+|--pass(?:word)?[ =]\S+"
)
_HEADER = re.compile(r"\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)

_CARD = re.compile(r"(?<!\d)(?:\d[ \u00a0.-]?){12,18}\d(?!\d)")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]{2,4}){3,8}")
_SSN = re.compile(r"(?<![0-9-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![0-9-])")
# The words of a wallet: as many as there are, and none that binds others together.
_SEED = re.compile(
    r"(?<![\w ])(?:(?!(?:the|is|to|of|in|my|we|it|for|on|are|was|be|as|at|or|and|with)\b)[a-z]{3,8} ){11}(?:(?:[a-z]{3,8} ){12})?[a-z]{3,8}(?![\w ])"
)

_WORD = re.compile(r"[A-Za-z0-9+/=_-]{16,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LOWER_CASE = re.compile(r"[a-z]{2,}")
_FEWEST_IN_WORDS = 0.45  # of the characters of a name; of random ones it is about a quarter
_MIN_BITS = 3.3  # a character; English words joined by dashes have less digits, keys have more


def redact(text: str) -> tuple[str, int]:
    """``text`` with every secret replaced by ``MARK``, and how many there were."""
    spans = secret_spans(text)
    parts: list[str] = []
    end = 0
    for start, stop in spans:
        parts += (text[end:start], MARK)
        end = stop
    return "".join((*parts, text[end:])), len(spans)


def secret_spans(text: str) -> list[tuple[int, int]]:
    """Where in ``text`` the secrets are."""
    return _merged(sorted(_spans(text)))


def holds_secret(text: str) -> bool:
    """Whether there is a secret in ``text``, or the mark of one."""
    return MARK in text or next(_spans(text), None) is not None


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for pattern in (_PRIVATE_KEY, _KNOWN_KEY, _IN_URL, _ASSIGNED, _ARGUMENT, _HEADER, _SSN, _SEED):
        yield from (match.span() for match in pattern.finditer(text))
    yield from named_spans(text)
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
    compact = text.replace(" ", "").upper()
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
    # Names and paths are words with separators; a key has digits strewn in between the letters, or changes case at random.
    if digits and has_both_cases and len(core) >= 24 and _num_in_words(core) < _FEWEST_IN_WORDS * len(core):
        return True
    if digits < 2 or digits == len(core) or (len(core) < 20 and not has_both_cases):
        return False
    if re.fullmatch(r"[0-9a-fA-F]{20,}", core):
        return True
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(core))
    bits = -sum(n / len(core) * math.log2(n / len(core)) for n in Counter(core).values())
    return bits > _MIN_BITS and changes >= 4


def _num_in_words(word: str) -> int:
    """How many letters follow each other in lower case, as those of words do."""
    return sum(map(len, _LOWER_CASE.findall(word)))
