"""Whether what a message wishes for may stand in every conversation.

Owns telling a message that says how things are to be done from one that only speaks of a text in which that is said;
refuses to know what was found in it. Invariant: in doubt nothing stands. A wish that stands is told in every
conversation, so a page that somebody pasted could give orders for ever; what does not stand is told where it fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MAX_MESSAGE = 1_200  # characters; whoever says more has pasted something, or speaks of one thing at length
# Nobody speaks so to their own agent, but texts that want to command it do.
_ORDERS = re.compile(
    r"\b(?:ignore|disregard|override|forget)\b[^.!?\n]{0,40}\b(?:previous|prior|above|earlier|preceding|system)\b[^.!?\n]{0,20}\b(?:instructions?|prompts?|rules|directives|guidelines)\b"
    r"|\b(?:ignoriere|vergiss)\b[^.!?\n]{0,40}\b(?:anweisungen|instruktionen|regeln)\b|\bignore[zs]?\b[^.!?\n]{0,40}\binstructions\b"
    r"|\bignora\b[^.!?\n]{0,40}\binstrucciones\b|(?:忽略|无视|無視)[^。！？\n]{0,12}(?:指令|指示|提示)|(?:指示|命令|プロンプト)[^。！？\n]{0,8}無視"
    r"|\b(?:system prompt|jailbreak|prompt injection)\b",
    re.IGNORECASE,
)
_TEXT = (
    r"(?:text|page|site|website|article|blog|post|comment|thread|forum|wiki|mail|e-?mail|letter|message|ticket|issue|pull request|pr|review|readme|docs?|documentation|document|manual|guide|book|paper|policy|contract"
    r"|log|output|prompt|snippet|passage|paragraph|excerpt|quote|transcript|newsletter|tweet|file|slide|screenshot)"
)
# Here another's words begin: what is said before them may be the user's own.
_INTRODUCED = re.compile(
    rf"\b(?:the|this|that|a|an|following|from|her|his|their) (?:[\w-]+ )?{_TEXT}\b[^.!?\n]{{0,60}}:"
    r"|\b(?:says|said|reads|wrote|writes|states|told me|sent me|sends me|posted|got|received|found)\b[^.!?\n]{0,40}:"
    r"|^(?:fwd?|fw|from|subject|betreff|von|de|objet|asunto|发件人|發件人|主题|主題|差出人|件名)[:：]"
    r"|\b(?:folgende[rnms]?|steht|schreibt|schrieb|sagt|text|mail|seite|artikel)\b[^.!?\n]{0,40}:"
    r"|\b(?:suivante?s?|dit|écrit|texte|page|article|courriel|mail)\b[^.!?\n]{0,40}:"
    r"|\b(?:siguientes?|dice|escribe|texto|página|artículo|correo)\b[^.!?\n]{0,40}:"
    r"|(?:以下|下面|这段|這段|这封|這封|网页|網頁|文章|邮件|郵件)[^。！？\n]{0,20}[:：]"
    r"|(?:以下|次の|この(?:文章|メール|記事|ページ))[^。！？\n]{0,20}[:：]",
    re.IGNORECASE | re.MULTILINE,
)
# The message speaks of a text that it shows.
_OF_A_TEXT = re.compile(
    rf"\b{_TEXT} (?:of|from) (?:the|this|that|a)\b|\bin (?:the|this|that) {_TEXT} of\b"
    rf"|\bi (?:just )?(?:found|read|saw|got|received|copied|pasted) (?:this|that|it|the following|these|an? (?:[\w-]+ )?{_TEXT})\b"
    r"|\bthe following\b|\b(?:see|as|text|quoted|pasted|said) (?:above|below)\b|\bwhat (?:does|do) (?:this|that|it|these|they)\b|\bwhat do you (?:make|think) of\b"
    r"|\b(?:is|are|was|does|do|should|would|can) (?:this|that|it|these|those|they)\b[^.!?\n]*\?"
    r"|\bwas (?:bedeutet|heißt|hältst du von)\b|\b(?:ist|sind|stimmt|bedeutet) (?:das|dies|es)\b[^.!?\n]*\?"
    r"|\bqu['’]est-ce que (?:cela|ça)\b|\best-ce (?:vrai|que c['’]est|dangereux|bien)\b|\bqué (?:significa|quiere decir)\b"
    r"|(?:是什么意思|是什麼意思|什么意思|怎么看|怎麼看)|どういう意味",
    re.IGNORECASE,
)


def may_stand(wish: str, said: Iterable[str]) -> bool:
    """Whether ``wish``, words of the messages ``said``, may stand: nothing there makes them look like another's."""
    words = re.compile(r"\s+".join(map(re.escape, wish.split())), re.IGNORECASE)
    return all(_is_their_own(text, words) for text in said)


def _is_their_own(text: str, wish: re.Pattern[str]) -> bool:
    if len(text) > _MAX_MESSAGE or _ORDERS.search(text) or _OF_A_TEXT.search(text):
        return False
    introduced = _INTRODUCED.search(text)
    return introduced is None or ((found := wish.search(text)) is not None and found.start() < introduced.start())
