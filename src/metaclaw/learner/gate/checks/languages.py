"""Which language a text is in, as far as its letters and its commonest words say.

Owns a coarse guess; refuses to be sure: what is too short or mixed has none. Invariant: the guess depends on the text
alone and needs no model.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_MIN_LETTERS = 12
_MAJORITY = 0.6
_MIN_COMMON_WORDS = 2
_SCRIPTS = {
    "CJK": "han", "HIRAGANA": "japanese", "KATAKANA": "japanese", "HANGUL": "korean", "CYRILLIC": "cyrillic",
    "ARABIC": "arabic", "HEBREW": "hebrew", "DEVANAGARI": "devanagari", "GREEK": "greek", "THAI": "thai",
    "LATIN": "latin",
}  # fmt: skip
_COMMON = {
    "english": "the of and to in is that it for you with this are have not be on as was but they what your can from",
    "german": "der die und das ist nicht ein eine zu den mit sich auf für von dem des im auch ich sie wir aber wird",
    "french": "le les des est une dans pour que qui pas vous je ce avec sur sont au nous plus il elle mais être cette",
    "spanish": "el los las una es en que por con para del se como más pero su está al lo no yo este muy son",
    "italian": "il di che è non per una con sono del della gli le si come più ma nel questo anche ho alla dei lo",
    "portuguese": "o os uma em que não para com do da você mais por se como mas ao dos das são foi isso tem seu",
    "dutch": "de het een van en niet dat is op te zijn met voor aan maar ook er wat ik je naar dit die om",
    "polish": "nie się na jest że to do jak ale co tak czy przez dla tego są być ma po od już",
    "swedish": "och att det är som en på för inte med jag har av den till ett om men så kan vi",
    "turkish": "bir ve bu için ile çok daha olarak ben sen ne gibi var değil mi olan ama kadar en",
}
_BY_WORD = {
    word: tuple(language for language, words in _COMMON.items() if word in words.split())
    for words in _COMMON.values()
    for word in words.split()
}
_WORD = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> str | None:
    """The language (for letters that many share) or the script; ``None`` when it cannot be told."""
    letters = Counter(_script(character) for character in text if character.isalpha())
    if letters.total() < _MIN_LETTERS:
        # A character of theirs is a word: a short text is enough.
        letters = Counter({script: count * 4 for script, count in letters.items() if script in ("han", "japanese")})
        if letters.total() < _MIN_LETTERS:
            return None
    if letters["japanese"] and letters["japanese"] + letters["han"] > _MAJORITY * letters.total():
        return "japanese"
    script, count = letters.most_common(1)[0]
    if count < _MAJORITY * letters.total():
        return None
    return _latin(text) if script == "latin" else script


def _latin(text: str) -> str | None:
    votes: Counter[str] = Counter()
    for word in _WORD.findall(text.lower()):
        votes.update(_BY_WORD.get(word, ()))
    ranked = votes.most_common(2)
    if not ranked or ranked[0][1] < _MIN_COMMON_WORDS or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def _script(character: str) -> str:
    return _SCRIPTS.get(unicodedata.name(character, "").split(" ")[0], "other")
