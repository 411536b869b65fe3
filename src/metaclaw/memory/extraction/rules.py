"""Finding what to remember by rules, where no model is configured.

Owns how the languages' rules are asked and what is kept of a sentence; refuses to know the languages. Invariant: what
is kept is the user's own sentence, so a "never" stays a "never"; in doubt nothing is kept, and never more than a few.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from metaclaw.memory.extraction.dates import day_of, is_until
from metaclaw.memory.extraction.findings import Finding, Found, Material
from metaclaw.memory.extraction.languages.chinese import CHINESE
from metaclaw.memory.extraction.languages.english import ENGLISH
from metaclaw.memory.extraction.languages.french import FRENCH
from metaclaw.memory.extraction.languages.german import GERMAN
from metaclaw.memory.extraction.languages.japanese import JAPANESE
from metaclaw.memory.extraction.languages.language import Language, Rule
from metaclaw.memory.extraction.languages.spanish import SPANISH
from metaclaw.memory.extraction.own_words import Statement, own_statements
from metaclaw.memory.units import Kind

_SPACED = (ENGLISH, GERMAN, SPANISH, FRENCH)
_MAX_FINDINGS = 6  # of one exchange
_ASKED_CONFIDENCE = 0.95
_EVENT_CONFIDENCE = 0.7
_DAY_S = 86_400.0
_EDGES = " ,;:-\u2013\u2014\uff0c\u3001"
_JOINT = re.compile(r"[\s,;:\uff0c\u3001\u2013\u2014-]*(?:(?:and|but|und|aber|y|pero|et|mais)\b\s*)?", re.IGNORECASE)
_HAN = re.compile(r"[\u4e00-\u9fff]")
_KANA = re.compile(r"[\u3040-\u30ff]")
# What is asked of the agent in the same breath is no part of the fact.
_REQUEST = re.compile(
    r"(?:[,;]|\s[-–—])\s*(?:(?:so|and|but|then)\s+)?(?:can|could|would|will) you\b.*|[,;]\s*(?:so |and )?(?:please|what|how|which(?! (?:is|are|was|means)\b[^?]*$)|where|who|why|is there)\b.*"
    r"|[,;]\s*(?:kannst|könntest|was|wie|welche|bitte)\b.*|[,;]\s*(?:puedes|podrías|qué|cómo|cuál)\b.*|[,;]\s*(?:peux-tu|pouvez|pourrais|que|quel|comment)\b.*",
    re.IGNORECASE,
)
# What only says when something is to be done: what is asked for after it is the wish.
_OPENING = re.compile(
    r"^(?:from now on|going forward|in (?:the )?future|by default|as a rule|(?:when(?:ever)?|every time|each time|before|after|if|unless|for|in)\b[^,;]*"
    r"|ab (?:jetzt|sofort)|von (?:jetzt|nun) an|in zukunft|künftig|(?:wenn|bevor|ehe|immer wenn|jedes mal,? wenn)\b[^,;]*"
    r"|à partir de maintenant|désormais|dorénavant|à l['’]avenir|par défaut|(?:quand|avant)\b[^,;]*"
    r"|a partir de ahora|de ahora en adelante|desde ahora|por defecto|(?:cuando|antes)\b[^,;]*)\s*$",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:(?:hi|hey|hello|hallo|hola|bonjour|salut|ok(?:ay)?|so|well|by the way|btw|also|actually|oh|übrigens|por cierto|au fait|对了|對了|ちなみに)(?: there)?\s*[,!，、]\s*)+",
    re.IGNORECASE,
)


class RuleExtractor:
    """Asks the rules of every language that a sentence may be in."""

    name = "rules"

    async def extract(self, material: Material) -> Found:
        return self.find(material)

    def find(self, material: Material) -> Found:
        """What the user's own sentences say that is worth keeping."""
        found, dropped = list[Finding](), Counter[str]()
        if material.num_secrets:
            dropped["secret"] += material.num_secrets
        for statement in own_statements(material):
            for finding in _findings(statement, material.said_at):
                if len(found) == _MAX_FINDINGS:
                    dropped["too_many"] += 1
                elif all(finding.text != other.text for other in found):
                    found.append(finding)
        return Found(findings=tuple(found), dropped=dropped)


def _findings(statement: Statement, said_at: float) -> list[Finding]:
    languages = tuple(_languages(statement.text))
    if not statement.bare.rstrip().endswith(("?", "\uff1f")):
        for language in languages:
            if match := language.asked.search(statement.bare):
                return _asked(statement, match, languages, said_at)
    kept = _trimmed(statement)
    # A doubt in any of them is one: words look alike across languages, and silence is cheap.
    if any(language.doubtful.search(kept.bare) for language in languages):
        return []
    return _stated(kept, languages, said_at)


def _asked(
    statement: Statement, match: re.Match[str], languages: tuple[Language, ...], said_at: float
) -> list[Finding]:
    """What the user asked to be remembered: the whole of it, because that is not ours to shorten."""
    span = next((slice(*match.span(name)) for name, value in match.groupdict().items() if value), slice(0))
    fact = Statement(statement.text[span].strip(), statement.bare[span].strip())
    if not fact.text:
        return []
    stated = _stated(fact, languages, said_at)
    if not stated:
        stated = [_finding("semantic", fact, said_at)]
    return [replace(found, confidence=_ASKED_CONFIDENCE) for found in stated]


def _stated(said: Statement, languages: tuple[Language, ...], said_at: float) -> list[Finding]:
    for language in languages:
        parts = _parts(said, language)
        if parts:
            return [finding for part in parts if (finding := _by_rule(part, language, said_at))]
        if language.own.search(said.bare) and day_of(said.bare, said_at) is not None:
            return [_finding("episodic", said, said_at, confidence=_EVENT_CONFIDENCE)]
    return []


def _parts(said: Statement, language: Language) -> list[Statement]:
    """``said``, cut where it goes on about another thing that has one value: each is replaced by its own successor."""
    starts: dict[str, int] = {}
    is_found = False
    for rule in language.rules:
        if match := rule.pattern.search(said.bare):
            is_found = True
            if rule.subject:
                starts.setdefault(_subject(rule, match, said.bare), match.start())
    if len(starts) < 2:
        return [said] if is_found else []
    cuts = sorted({0, *sorted(starts.values())[1:]})
    pieces = [slice(start, end) for start, end in zip(cuts, [*cuts[1:], len(said.bare)], strict=True)]
    return [_without_joint(Statement(said.text[piece], said.bare[piece])) for piece in pieces]


def _by_rule(said: Statement, language: Language, said_at: float) -> Finding | None:
    for rule in language.rules:
        if match := rule.pattern.search(said.bare):
            subject = _subject(rule, match, said.bare)
            is_event = rule.kind == "semantic" and not subject and day_of(said.bare, said_at) is not None
            kind = "episodic" if is_event else rule.kind
            found = _finding(kind, said, said_at, confidence=rule.confidence, subject=subject)
            return replace(found, is_standing=rule.is_standing and not language.at_hand.search(said.bare))
    return None


def _finding(
    kind: Kind, said: Statement, said_at: float, *, confidence: float = _ASKED_CONFIDENCE, subject: str = ""
) -> Finding:
    day = day_of(said.text, said_at)
    is_end = day is not None and is_until(said.text)
    return Finding(
        kind=kind,
        text=said.text,
        evidence=said.text,
        confidence=confidence,
        subject=subject,
        true_from=None if is_end else day,
        true_until=day + _DAY_S if day is not None and is_end else None,
    )


def _languages(text: str) -> Iterator[Language]:
    if _KANA.search(text):
        yield JAPANESE
    elif _HAN.search(text):
        yield CHINESE
    if re.search(r"[A-Za-z]{2}", text):
        yield from _SPACED


def _subject(rule: Rule, match: re.Match[str], text: str) -> str:
    if "subject" not in match.re.groupindex or not match["subject"]:
        return rule.subject
    start, end = match.span("subject")
    return f"{rule.subject} {' '.join(text[start:end].split()).casefold()}".strip()


def _trimmed(said: Statement) -> Statement:
    """``said`` without greetings before it and a request after it."""
    start = match.end() if (match := _LEAD.match(said.bare)) else 0
    end = match.start() if (match := _REQUEST.search(said.bare, start)) else len(said.bare)
    if _OPENING.match(said.bare[start:end]):
        end = len(said.bare)
    return Statement(said.text[start:end].strip(_EDGES), said.bare[start:end].strip(_EDGES)) if end > start else said


def _without_joint(said: Statement) -> Statement:
    start = match.end() if (match := _JOINT.match(said.bare)) else 0
    return Statement(said.text[start:].strip(_EDGES), said.bare[start:].strip(_EDGES))
