"""Whether a human's next message says that the answer before it was wrong.

Owns the phrases, in a few languages; refuses to know what follows from it. Invariant: it errs on the side of no: a
question, a thank-you or a change of mind is no correction, and a language that is not here is never one. Only the
beginning of a message is read, because a correction comes first, and a long paste holds every phrase there is.
"""

from __future__ import annotations

import re

_BEGINNING = 160  # characters

# Each needs a verdict on what was said ("that's wrong"), not just a "no": an agent asks things that "no" answers.
_PHRASES = (
    # English
    r"(?:that|this|it)(?:'s| is| was|’s) (?:still |just |simply |completely |totally |all )?"
    r"(?:wrong|incorrect|not (?:right|correct|true|what i (?:asked|meant|wanted|said)))\b",
    r"(?:that|this|it) (?:still )?(?:does not|doesn'?t|doesn’t|did not|didn'?t|didn’t) (?:work|help|compile|run)\b",
    r"you(?:'re| are|’re) (?:wrong|mistaken)\b",
    r"you (?:misunderstood|misread|ignored|forgot|got (?:it|that|this) wrong|broke|made a mistake)\b",
    r"i (?:asked you not to|asked for something else|told you not to)\b",
    r"(?:no|nope)[,.!]? i (?:asked|meant|said|wanted)\b",
    r"wrong(?:[.,!:;]|$)",
    # German
    r"das (?:ist|war) (?:immer noch |leider |völlig |so )?(?:falsch|nicht (?:richtig|korrekt|das,? was ich))",
    r"das stimmt (?:so |leider )?nicht\b",
    r"das (?:funktioniert|geht|klappt) (?:so |immer noch |leider |noch immer )*nicht\b",
    r"du hast (?:\w+ ){0,4}(?:falsch|missverstanden|vergessen|ignoriert|übersehen)",
    r"nein[,.!]? ich (?:wollte|meinte|sagte)\b",
    r"falsch(?:[.,!:;]|$)",
    # French
    r"c['’](?:est|était) (?:toujours )?(?:faux|incorrect)\b",
    r"ce n['’](?:est|était) pas (?:ça|cela|correct|juste|ce que j)",
    r"(?:ça|cela) ne (?:marche|fonctionne) (?:toujours )?pas\b",
    r"(?:tu t['’]es|vous vous êtes) trompée?s?\b",
    # Spanish, Portuguese, Italian
    r"(?:eso|esto) (?:está |es )?(?:mal|incorrecto|equivocado)\b",
    r"(?:eso |esto )?no (?:es correcto|es lo que (?:pedí|quería|dije)|funciona)\b",
    r"te (?:equivocaste|has equivocado)\b",
    r"(?:isso|isto) (?:está|é) (?:errado|incorreto)\b",
    r"não (?:é o que (?:eu )?(?:pedi|queria)|funciona|está (?:certo|correto))\b",
    r"(?:questo )?è (?:sbagliato|errato)\b",
    r"non (?:è (?:corretto|giusto|quello che)|funziona)\b",
    # Russian
    r"это (?:не ?верно|неправильно|не то|ошибка|не работает)\b",
    r"(?:неправильно|неверно|не то)(?:[.,!:;]|$)",
    r"ты (?:ошиб(?:ся|лась)|не понял)",
)  # fmt: skip
# They count where a clause begins: "a function that returns true if it is not correct" says nothing of the answer.
_CLAUSE = r"(?:^|[.,;:!–—] ?|\b(?:no|but|well|hm+|sorry|nein|aber|non|mais|pero|não|mas|нет|но) )"
# Chinese, Japanese, Korean: words are not spaced, so the phrase alone must say it.
_UNSPACED = (
    r"^(?:不对|不對|错了|錯了|不是这样|不是這樣|你(?:错|錯|弄错|搞错|理解错|誤會|误解))",
    r"(?:这|這|那|你的?)(?:个|個)?(?:回答|答案|结果|結果)?(?:是)?(?:不对|不對|错的|錯的|错误的|錯誤的)(?!吗|嗎|\?|？)",
    r"^(?:違います|違う|間違って(?:い)?ます|間違ってる|そうではなく|そうじゃなく)(?!か)",
    r"(?:それ|これ|その答え)は(?:違います|違う|間違)",
    r"^(?:틀렸|아니요?,? ?(?:그게|그건)|그게 아니)",
)
_CORRECTION = re.compile(f"{_CLAUSE}(?:{'|'.join(_PHRASES)})|{'|'.join(_UNSPACED)}", re.IGNORECASE)


def is_correction(text: str) -> bool:
    """Whether ``text`` begins by saying that what came before it is wrong."""
    beginning = " ".join(text.strip()[:_BEGINNING].split())
    sentence = re.split(r"(?<=[.!?。！？])\s*", beginning)
    # A question may ask whether something is wrong.
    said = " ".join(part for part in sentence[:3] if part and part[-1] not in "?？")
    return _CORRECTION.search(said) is not None
