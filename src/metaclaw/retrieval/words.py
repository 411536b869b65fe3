"""The words of a text, in any script.

Owns what counts as one word and which words carry no meaning; refuses to know why they are looked for. Invariant: equal
words have one form whatever their case, width, accents or common endings, and no model or dictionary is needed.

Scripts without blanks between words give pairs of neighbouring letters, so that two texts share a pair where they share
a word. A single letter of those scripts counts only in Chinese characters, where it is a word.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from metaclaw.retrieval.scripts import CLUSTER, RUNS, WORD, one_spelling
from metaclaw.retrieval.stop_words import STOP_CHARACTERS, STOP_WORDS

_LONGEST = 64  # characters; what is longer is no word but data
_CYRILLIC, _ARABIC = ("\u0400", "\u04ff"), ("\u0600", "\u06ff")
# What is cut from the end, and how much must be left. Of "boxes" the whole syllable, of "notes" one letter.
_PLURALS = (("ches", 2), ("shes", 2), ("sses", 2), ("ies", 3), ("xes", 2), ("zes", 3), ("es", 4), ("s", 3))
_VERB_ENDINGS = (("ing", 3), ("ed", 3), ("en", 3))  # and a vowel before them: "string" is whole
_VOWEL = re.compile("[aeiouy]")
_SHORT_WITH_E = re.compile("[^aeiou][aeiou][^aeiouwxy]")
_PUT_BACK = {"ches": "ch", "shes": "sh", "sses": "ss", "ies": "y", "xes": "x", "zes": "z"}
# Endings of declension that say little about the subject, longest first, and how much must be left of the word.
_RUSSIAN_ENDINGS = (
    "иями", "ями", "ами", "иях", "ого", "его", "ому", "ему", "ыми", "ими", "ях", "ах", "ам", "ям", "ов", "ев", "ей",
    "ой", "ый", "ий", "ая", "яя", "ое", "ее", "ые", "ие", "ую", "юю", "ых", "их", "ым", "им", "ом", "ем", "ию", "ия",
    "ии", "а", "я", "о", "е", "ы", "и", "у", "ю", "ь", "й",
)  # fmt: skip
_ARABIC_ARTICLES = ("وال", "بال", "كال", "فال", "لل", "ال")
_SHORTEST_STEM = 3


def words_of(text: str) -> list[str]:
    """The words of ``text`` that carry meaning, in order, each in its one form."""
    words: list[str] = []
    for match in WORD.findall(one_spelling(text)):
        if len(match) <= _LONGEST and match.isascii():
            if word := _spaced_word(match):
                words.append(word)
        else:
            words.extend(_mixed(match))
    return words


def characters_of(text: str) -> list[str]:
    """The Chinese characters of ``text``, each a word: for an index, in which one alone may be looked for."""
    if text.isascii():
        return []
    runs = (run.group() for run in RUNS.finditer(one_spelling(text)) if run.lastgroup == "han")
    return [letter for run in runs for letter in run.translate(STOP_CHARACTERS) if letter != " "]


def spaced_words_of(text: str) -> list[str]:
    """The words of ``text`` in scripts that put blanks between them, as they are written but for case and accents.

    Those that carry no meaning are left out.
    """
    words = (word for match in WORD.findall(one_spelling(text)) for word in _spaced_runs(match))
    return [word for word in words if word not in STOP_WORDS]


def binding_words_of(text: str) -> list[str]:
    """The words of ``text`` that only bind others together, in scripts that put blanks between words."""
    return [word for word in WORD.findall(one_spelling(text)) if word in STOP_WORDS]


def _spaced_runs(text: str) -> list[str]:
    if text.isascii():
        return [text] if len(text) <= _LONGEST else []
    runs = "".join(run.group() if run.lastgroup == "spaced" else " " for run in RUNS.finditer(text)).split()
    return [run for run in runs if len(run) <= _LONGEST]


def _mixed(text: str) -> Iterator[str]:
    """The words of a run of letters in which scripts may change."""
    spaced = ""
    for run in RUNS.finditer(text):
        if run.lastgroup == "spaced":
            spaced += run.group()
            continue
        yield from _spaced(spaced)
        spaced = ""
        yield from _unspaced(run.group(), str(run.lastgroup))
    yield from _spaced(spaced)


def _spaced(text: str) -> Iterator[str]:
    if 0 < len(text) <= _LONGEST and (word := _spaced_word(text)):
        yield word


@lru_cache(maxsize=65_536)
def _spaced_word(word: str) -> str:
    """Its one form; empty when it carries no meaning."""
    if word in STOP_WORDS or (len(word) == 1 and not word.isdigit()):
        return ""
    if word.isascii():
        return _stem(word)
    if _CYRILLIC[0] <= word[0] <= _CYRILLIC[1]:
        return _without(word, _RUSSIAN_ENDINGS)
    return _without_article(word) if _ARABIC[0] <= word[0] <= _ARABIC[1] else word


def _unspaced(run: str, script: str) -> Iterator[str]:
    parts = run.translate(STOP_CHARACTERS).split() if script == "han" else [run]
    for part in parts:
        letters: list[str] = CLUSTER.findall(part)
        if len(letters) == 1 and script in ("han", "hangul") and letters[0] not in STOP_WORDS:
            yield letters[0]
        for first, second in itertools.pairwise(letters):
            if (pair := first + second) not in STOP_WORDS:
                yield pair


def _stem(word: str) -> str:
    word = _without_plural(word)
    for ending, shortest in _VERB_ENDINGS:
        stem = word.removesuffix(ending)
        if len(word) > len(stem) >= shortest and _VOWEL.search(stem) and not word.endswith("eed"):
            return _without_e(_as_without_ending(stem))
    return _without_e(word)


def _as_without_ending(stem: str) -> str:
    """What was there before the ending: "hike" of "hik-ed", "plan" of "plann-ed"."""
    if stem[-1] == stem[-2] and stem[-1] not in "aeiouylsz":
        return stem[:-1]
    return stem + "e" if _SHORT_WITH_E.fullmatch(stem) else stem


def _without_e(word: str) -> str:
    return word.removesuffix("e") if len(word) > 4 else word


def _without_plural(word: str) -> str:
    if word.endswith("ss"):
        return word
    for ending, shortest in _PLURALS:
        if word.endswith(ending) and len(word) - len(ending) >= shortest:
            return word[: -len(ending)] + _PUT_BACK.get(ending, "")
    return word


def _without(word: str, endings: Iterable[str]) -> str:
    for ending in endings:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word


def _without_article(word: str) -> str:
    for article in _ARABIC_ARTICLES:
        if word.startswith(article) and len(word) - len(article) >= _SHORTEST_STEM:
            return word[len(article) :]
    return word


# Raised whenever words take another form, so that whoever keeps an index knows that it is of another time.
VERSION = 3
