"""Whether what a message wishes for may stand in every conversation.

Owns telling a message that says how things are to be done from one that only speaks of a text in which that is said;
refuses to know what was found in it. Invariant: in doubt nothing stands. A wish that stands is told in every
conversation, so a page that somebody pasted could give orders for ever; what does not stand is told where it fits, and
what may be another's is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_MAX_MESSAGE = 1_200  # characters; whoever says more has pasted something, or speaks of one thing at length
# Nobody speaks so to their own agent, but texts that want to command it do.
_ORDERS = re.compile(
    r"\b(?:ignore|disregard|override|forget)\b[^.!?\n]{0,40}\b(?:previous|prior|above|earlier|preceding|system)\b[^.!?\n]{0,20}\b(?:instructions?|prompts?|rules|directives|guidelines)\b"
    r"|\b(?:ignoriere|vergiss)\b[^.!?\n]{0,40}\b(?:anweisungen|instruktionen|regeln)\b|\bignore[zs]?\b[^.!?\n]{0,40}\binstructions\b"
    r"|\bignora\b[^.!?\n]{0,40}\binstrucciones\b|(?:忽略|无视|無視)[^。！？\n]{0,12}(?:指令|指示|提示)|(?:指示|命令|プロンプト)[^。！？\n]{0,8}無視"
    r"|\b(?:system prompt|jailbreak|prompt injection)\b"
    # Programs that ask in the user's name speak of the user, and tell the model what it is.
    r"|\bthe users?\b|^you (?:are (?:now|an?|the)|will be (?:given|shown)|have been given|have access)\b",
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
    r"|\b(?:is|are|was) (?:this|that|it|these|those|they)\b[^.!?\n]*\b(?:good|bad|true|right|wrong|safe|dangerous|ok(?:ay)?|legit|normal|spam|advice|scam|correct|sensible|serious|real|fake|allowed|legal)\b[^.!?\n]*\?"
    r"|\bshould i (?:do|follow|obey|trust|believe) (?:this|that|it|these|those|them)\b"
    r"|\bwas (?:bedeutet|heißt|hältst du von)\b|\bstimmt (?:das|es)\b|\b(?:ist|sind) (?:das|dies|es)\b[^.!?\n]*\b(?:gut|schlecht|richtig|falsch|wahr|sicher|gefährlich|echt|sinnvoll|erlaubt|betrug)\w*[^.!?\n]*\?"
    r"|\bqu['’]est-ce que (?:cela|ça)\b|\best-ce (?:vrai|que c['’]est|dangereux|bien)\b|\bqué (?:significa|quiere decir)\b"
    r"|(?:是什么意思|是什麼意思|什么意思|怎么看|怎麼看)|どういう意味",
    re.IGNORECASE,
)


# Something is asked for. What goes with it impersonally ("never use quotes") says how that is to be done, and is what
# programs write when they ask for a title in the user's name.
_ASKED = re.compile(
    r"[?？]|(?:^|[.!:;\n])\s*(?:(?:please|now|then|next|ok(?:ay)?|hi|hello|also|so|and),? )*(?:(?:can|could|would|will) you\b|(?:generate|create|summari[sz]e|suggest|extract|fix|refactor|implement|analy[sz]e"
    r"|write|draft|compose|rewrite|translate|answer the|continue|decide|classify|list|explain|describe|find|show|give|tell|make|build|add|review|compare|convert|calculate|plan|debug|investigate|search|look|read|open"
    r"|run|deploy|delete|remove|rename|update|sort|book|remind|send|reply to|call|schedule|check|do|start|help|provide|return|output|identify|evaluate|rate|score|determine|complete|fill|parse|improve|optimi[sz]e|clean"
    r"|merge|test|push|install|based on|erstelle|schreibe?|fasse|übersetze|erkläre|prüfe|analysiere|finde|zeige?|mach|lies|gib|korrigiere|génère|crée|résume|traduis|écris|explique|analyse|trouve|corrige|rédige|fais"
    r"|genera|crea|resume|traduce|escribe|explica|analiza|encuentra|redacta|haz)\b)"
    r"|(?:^|[。！\n])\s*请?(?:生成|总结|总結|翻译|翻譯|写一|寫一|分析|修复|修復|解释|解釋|列出)|(?:生成|要約|翻訳|作成|分析|修正|説明)して",
    re.IGNORECASE,
)
# Said for all time to come, or by a person of themselves and their work: so it is, whatever else is asked for.
_FOR_GOOD = re.compile(
    r"\b(?:from (?:now|here) on|going forward|in (?:the )?future|i|me|my|mine|us|our|ours|we|ab (?:jetzt|sofort)|künftig|in zukunft|ich|mir|mich|mein\w*|uns|unser\w*|à partir de maintenant|désormais|dorénavant|à l['’]avenir"
    r"|je|moi|mon|ma|mes|nous|notre|nos|a partir de ahora|de ahora en adelante|mi|mis|nuestr\w+)\b|\b[jm]['’]|\b(?:h[aá]blame|resp[oó]ndeme|dime|preg[uú]ntame|av[ií]same|ll[aá]mame|cont[eé]stame|escr[ií]beme)\b|从现在开始|從現在開始|以后|以後|今后|今後|我|これから|私|僕|うち",
    re.IGNORECASE,
)


def is_anothers(wish: str, said: Iterable[str]) -> bool:
    """Whether ``wish``, words of the messages ``said``, may be somebody else's, which the user only shows."""
    words = _pattern_of(wish)
    return any(not _is_their_own(text, words) for text in said)


def is_impersonal(wish: str) -> bool:
    """Whether ``wish`` says nothing of whoever says it, and nothing for good: anybody's orders read so."""
    return not _FOR_GOOD.search(wish)


def may_stand(wish: str, said: Collection[str]) -> bool:
    """Whether ``wish``, words of the messages ``said``, may stand: nothing there makes it another's, or for once."""
    if any(len(text) > _MAX_MESSAGE for text in said) or is_anothers(wish, said):
        return False
    words = _pattern_of(wish)
    return not is_impersonal(wish) or not any(_ASKED.search(words.sub(" ", text)) for text in said)


def _pattern_of(wish: str) -> re.Pattern[str]:
    return re.compile(r"\s+".join(map(re.escape, wish.split())), re.IGNORECASE)


def _is_their_own(text: str, wish: re.Pattern[str]) -> bool:
    if _ORDERS.search(text) or _OF_A_TEXT.search(text):
        return False
    introduced = _INTRODUCED.search(text)
    return introduced is None or ((found := wish.search(text)) is not None and found.start() < introduced.start())
