"""What in a user's message is a statement of theirs.

Owns leaving out what is code, quoted, pasted, or written by a program in the user's name; refuses to know what a
statement means. Invariants: a statement is a piece of the message, unchanged; in doubt a piece is left out; and none
holds a secret. What is a person's own is told by all of the message: where a secret was cut out first, the quotation
mark or the tag beside it would go with it, and what it encloses would pass for theirs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from metaclaw.memory.extraction.findings import Material
from metaclaw.memory.secrets import holds_secret, secret_spans

# Messages that programs write in the user's name, by a phrase that no person types. OpenClaw's were read in its source
# and on the wire; the others are how coding agents hand over files and settings.
_PROGRAM = re.compile(
    r"HEARTBEAT(?:_OK|\.md)|heartbeat monitor scratch context|Session Startup sequence|^Pre-compaction memory flush"
    r"|^A new session was started via|^System: \[|^\[(?:cron|hook|system|subagent)\b|^\[Subagent (?:Context|Task)\]"
    r"|^# AGENTS\.md instructions|^Caveat: The messages below were generated|^This session is being continued from"
    r"|^You are (?:an?|the) [^.\n]{0,80}\b(?:assistant|agent|model|expert|bot|engineer|copilot|system)\b"
    r"|^(?:#+ )?(?:System prompt|Instructions|Tooling|Available tools)\b[: ]*$|^### Task:|^Your task is to\b",
    re.MULTILINE | re.IGNORECASE,
)
# OpenClaw's clock, before the person's own words: what is above it was put there by it and by its plugins.
_CLOCK = re.compile(r"^\[[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d [^\]\n]{1,12}\] ", re.MULTILINE)
# From here on somebody hands over a conversation, or what another memory holds: up to a rule, or to the end.
_ROLE = re.compile(
    r"^[\W_]{0,4}(?:user|assistant|human|system|ai|agent|tool|bot|benutzer|assistent|usuario|asistente|utilisateur"
    r"|用户|用戶|助手|ユーザー|アシスタント)[\W_]{0,4}[:：]",
    re.MULTILINE | re.IGNORECASE,
)
_HANDED_OVER = re.compile(
    r"^(?:#{1,6} [^\n]{0,60}|[^\n:：.]{0,60}(?=[:：][ \t*]*$))",
    re.MULTILINE,
)
_OF_A_MEMORY = re.compile(
    r"\b(?:memor(?:y|ies)|recall(?:ed)?|remembered|long-term|user (?:profile|facts)|erinnerungen|recuerdos|memoria|souvenirs|mémoires?)\b|记忆|記憶",
    re.IGNORECASE,
)
_IS_ASKED = re.compile(r"\b(?:please|add|save|store|update|put|merke?|speichere?|guarda|enregistre)\b", re.IGNORECASE)
_RULE = re.compile(r"^[ \t]*(?:-{3,}|\*{3,}|_{3,}|={3,})[ \t]*$", re.MULTILINE)
_TAG = re.compile(r"<([A-Za-z][\w:.-]{0,60})(?:\s[^<>]{0,300})?>")
_FENCE = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)
_MARKED = re.compile(r"<<<[A-Z_ ]{3,60}>>>")
# Lines that are not prose: quoted, tables, headings, code, logs, JSON, fields of metadata.
_NOT_PROSE = re.compile(
    r"^(?:>|\||#|\t| {4,}\S|[{}\[\]<$]|--|\+\+\+|@@|\d{4}-\d\d-\d\d[T ]\d\d:|\[\d\d:|\"|(?:INFO|WARN|ERROR|DEBUG|Traceback|File \")"
    r"|[A-Za-z_][\w.-]*\(|(?:def|class|import|from|return|const|let|var|function|public|SELECT|INSERT)\s"
    r"|[a-z][a-z0-9]*(?:[_-][a-z0-9]+)+\s*[:=(—-])"
)
_BULLET = re.compile(r"^\s*(?:[-*•·]|\d{1,2}[.)])\s+")
_TIMESTAMP = re.compile(r"^\[[^\]\n]{6,60}\]\s*")
_END = re.compile(
    r"(?<=[.!?])[\"')\]”“»]{0,2}\s+(?!(?:Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember)\b)"
    r"|(?<=[。！？])[」』”]?"
)
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|approx|Dr|Mr|Mrs|Ms|Prof|St|No|z\.B|d\.h|bzw|usw|ca|Nr|p\.ej|Sr|Sra|M|Mme|p\. ex|[A-Z])\.$")  # fmt: skip
_QUOTED = re.compile(r"\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|„[^“”\n]{1,400}[“”]|«[^»\n]{1,400}»|「[^」\n]{1,400}」|『[^』\n]{1,400}』|‘[^’\n]{2,400}’|`[^`\n]{1,400}`")  # fmt: skip
# "Translate this: ..." and what follows is not the user speaking of themselves.
_PAYLOAD = re.compile(
    r"\b(?:translate|proof-?read|rewrite|rephrase|paraphrase|summari[sz]e|correct|polish|edit|improve|review|analy[sz]e|classify|reply|respond|answer"
    r"|explain|grade|continue|complete|extract|parse|convert|format|shorten|what does|draft|write|compose|imagine|role-?play|pretend|act as"
    r"|übersetze?n?|korrigiere|formuliere|fasse|verbessere|schreibe?|antworte auf|analysiere|erkläre|prüfe"
    r"|traduce|traducir|corrige|corriger|reescribe|resume|mejora|escribe|redacta|responde a|traduis|traduire|réécris|résume|améliore|écris|rédige|analyse"
    r"|翻译|翻譯|润色|改写|总结|分析|续写|修改|写一|回复|翻訳|要約|添削|書いて|直して|訳して)"
)
_PAYLOAD_THEN_TEXT = re.compile(rf"(?:{_PAYLOAD.pattern})[^.!?。！？\n]{{0,160}}[:：]\s*", re.IGNORECASE)
_FICTION = re.compile(
    r"\b(?:write|tell|compose|draft|create|generate|make up)\b[^.!?\n]{0,60}\b(?:story|poem|song|novel|letter|e-?mail|dialog(?:ue)?|script|essay|speech|scene|joke|bio|cover letter|post|tweet|lyrics)\b"
    r"|\b(?:let'?s (?:role-?play|pretend)|role-?play|pretend (?:that|you|to)|in character)\b"
    r"|\b(?:schreib\w*|erzähl\w*|verfasse)\b[^.!?\n]{0,60}\b(?:geschichte|gedicht|brief|e-?mail|dialog|roman|lied)\b"
    r"|\b(?:escrib\w*|redact\w*|cuenta)\b[^.!?\n]{0,60}\b(?:historia|cuento|poema|carta|correo|diálogo|novela)\b"
    r"|\b(?:écri\w*|rédige\w*|raconte\w*)\b[^.!?\n]{0,60}\b(?:histoire|poème|lettre|e-?mail|dialogue|roman|conte)\b"
    r"|写(?:一?[个篇首封段则])?[^。\n]{0,12}(?:故事|小说|诗|信|邮件|作文|对话|剧本)|(?:物語|小説|詩|手紙|メール|台本|会話)を(?:書|作)",
    re.IGNORECASE,
)

_MAX_MESSAGE = 2_000  # beyond it something was pasted
_MAX_PARAGRAPH = 600
_MAX_STATEMENT = 320
_MIN_STATEMENT = 4
_MIN_ECHO = 16
_MAX_READ = 200_000


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of the user's. ``bare`` is it with what stands in quotation marks blotted out, of equal length."""

    text: str
    bare: str


def statements(said: str, *, elsewhere: Collection[str] = (), recalled: Collection[str] = ()) -> list[Statement]:
    """The sentences of ``said`` that are the user's own. ``elsewhere`` is what they may only have been copied from.

    What was ``recalled`` is not new, whoever says it again.
    """
    if len(said) > _MAX_READ or _PROGRAM.search(said) or _FICTION.search(said):
        return []
    prose = _before_payload(_prose(_not_handed_over(said)))
    copied = [plain(text) for text in elsewhere if text]
    known = [plain(text) for text in recalled]
    found: list[Statement] = []
    for one in _sentences(prose):
        sentence = one.text
        if not _MIN_STATEMENT <= len(sentence) <= _MAX_STATEMENT:
            continue
        if len(sentence) >= _MIN_ECHO and any(plain(sentence) in text for text in copied):
            continue
        if any(plain(sentence) in text for text in known):
            continue
        found.append(one)
    return found


def own_statements(material: Material) -> list[Statement]:
    """The user's sentences in all their messages of an exchange, each once, but for those that hold a secret."""
    found: dict[str, Statement] = {}
    for said in material.said:
        secrets = [plain(said[start:end]) for start, end in secret_spans(said)]
        for one in statements(said, elsewhere=material.elsewhere, recalled=material.recalled):
            if not _is_secret(one.text, secrets):
                found[one.text] = one
    return list(found.values())


def plain(text: str) -> str:
    """``text`` as it is compared: white space and case do not count."""
    return " ".join(text.split()).casefold()


def without_markup(text: str) -> str:
    """``text`` without fenced code and without what stands in tags: no person talks in those."""
    return _without_tags(_without_fences(_MARKED.split(text, maxsplit=1)[0]))


def _is_secret(statement: str, secrets: Collection[str]) -> bool:
    words = plain(statement).rstrip(".!?。！？ \"')")  # a secret may begin in one sentence and end in the next
    return any(secret in words or words in secret for secret in secrets) or holds_secret(statement)


def _not_handed_over(said: str) -> str:
    clocks = list(_CLOCK.finditer(said))
    if clocks:
        said = said[clocks[-1].end() :]
    if role := _ROLE.search(said):
        said = said[: role.start()]
    kept: list[str] = []
    start = 0
    while heading := next((one for one in _HANDED_OVER.finditer(said, start) if _is_of_a_memory(one[0])), None):
        kept.append(said[start : heading.start()])
        rule = _RULE.search(said, heading.end())
        if rule is None:
            return "".join(kept)
        start = rule.end()
    return "".join(kept) + said[start:]


def _is_of_a_memory(heading: str) -> bool:
    return bool(_OF_A_MEMORY.search(heading)) and not _IS_ASKED.search(heading)


def _prose(said: str) -> str:
    kept = without_markup(said)
    paragraphs = [part for part in re.split(r"\n[ \t]*\n", kept) if part.strip()]
    if len(kept) > _MAX_MESSAGE and paragraphs:
        # Who pastes a long text says before or after it what it is for.
        ends = paragraphs[:1] + paragraphs[1:][-1:]
        paragraphs = [part for part in ends if len(part) <= _MAX_PARAGRAPH]
    lines = [line for part in paragraphs for line in (*part.split("\n"), "")]
    return "\n".join(_TIMESTAMP.sub("", _BULLET.sub("", line)).strip() for line in lines if not _NOT_PROSE.match(line))


def _before_payload(prose: str) -> str:
    # What is quoted asks for nothing ("`status: draft`"), and is left out of what is said already.
    match = _PAYLOAD_THEN_TEXT.search(_QUOTED.sub(_blotted, prose))
    if match is None:
        return prose
    # The task itself is no statement either: what was said before its sentence stays.
    start = max(prose.rfind(mark, 0, match.start()) for mark in (". ", "! ", "? ", "\n", "。", "！", "？"))
    return prose[: start + 1] if start >= 0 else ""


def _sentences(prose: str) -> Iterator[Statement]:
    for line in prose.split("\n"):
        bare = _QUOTED.sub(_blotted, line)  # first: what is quoted may be several sentences
        start = 0
        for end in (*(match.end() for match in _END.finditer(bare)), len(line)):
            if _ABBREVIATION.search(line[start:end].rstrip()) and end < len(line):
                continue
            if text := line[start:end].strip():
                first = line.index(text, start)
                yield Statement(text, bare[first : first + len(text)])
            start = end


def _blotted(quoted: re.Match[str]) -> str:
    """As many letters as there are; the sentence ends behind it, where that which is quoted does."""
    ends = quoted[0][-2] in ".!?。！？"
    return "Q" * (len(quoted[0]) - 2) + quoted[0][-2:] if ends else "Q" * len(quoted[0])


def _without_fences(text: str) -> str:
    kept: list[str] = []
    start = 0
    while opening := _FENCE.search(text, start):
        kept.append(text[start : opening.start()])
        closing = re.compile(rf"^[ \t]*{opening[1]}[^\n]*$", re.MULTILINE).search(text, opening.end())
        if closing is None:
            return "\n".join(kept)
        start = closing.end()
    kept.append(text[start:])
    return "\n".join(kept)


def _without_tags(text: str) -> str:
    kept: list[str] = []
    start = 0
    while opening := _TAG.search(text, start):
        kept.append(text[start : opening.start()])
        closing = f"</{opening[1]}>"
        end = text.find(closing, opening.end())
        start = opening.end() if end < 0 else end + len(closing)
        if end < 0 and _begins_line(text, opening.start()):
            return "\n".join(kept)  # an element that never ends
    kept.append(text[start:])
    return "\n".join(kept)


def _begins_line(text: str, index: int) -> bool:
    return not text[text.rfind("\n", 0, index) + 1 : index].strip()
