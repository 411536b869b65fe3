"""German: what people say that is worth remembering.

Owns the patterns; refuses to know what is done with them. Invariant: as for English; the verb's place after the object
("wohne ich") counts too.
"""

from __future__ import annotations

from metaclaw.memory.extraction.languages.language import Language, Rule, words

_BEGIN = r"(?:^|[,;:(–—-]\s*|\b(?:und|aber|denn|weil|da|also|übrigens|bitte|hallo|hi|nein|ja|doch|sondern|dass|eigentlich)\b,?\s+)"
_HOW = r"(?:(?:wirklich|immer|meistens?|grundsätzlich|generell|persönlich|auch|noch|nur|jetzt|inzwischen|mittlerweile|aktuell|derzeit|eigentlich|sehr|überhaupt|seit \S+|gerade|übrigens|am liebsten)\s+)*"
_ICH = rf"{_BEGIN}ich\s+{_HOW}"
_V = r"(?:^|[,;:]\s*|\b\w+\s+)"  # "Seit 2020 wohne ich", "Am liebsten trinke ich"
_RELATIVE = r"(?:frau|mann|partner(?:in)?|freund(?:in)?|mutter|vater|schwester|bruder|sohn|tochter|kind(?:er)?|eltern|oma|opa|chef(?:in)?|kolleg(?:e|in)|hund|katze|kater|auto|fahrrad|wohnung|haus|hobby|hobbys|arbeitgeber|firma|team|beruf|job|laptop|rechner|editor|betriebssystem|muttersprache|verlobte[rn]?|termin|hochzeit|prüfung)"
_PROJECT = r"(?:(?:unser[e]?|mein[e]?|das|die|der|dieses)\s+(?:[\w-]+\s+){0,2}?(?:projekt|repo(?:sitory)?|codebasis|dienst|service|anwendung|app|backend|frontend|datenbank|api|webseite|website|cluster|pipeline|server|paket|bibliothek|produkt|infrastruktur|deployment|firma|team))"

# Wie man es einem Agenten sagt: "kommt" und "wird" gehören nicht dazu.
_TU = r"(?:antworte|schreibe?|nutze?|verwende|benutze?|nimm|mache?|gib|zeige?|frage?|nenne?|sage?|füge?|lasse?|halte?|lege?|erkläre?|sprich|duze|sieze|formuliere|kommentiere|speichere?|teste|prüfe?|achte|denke?|vermeide|sende|schicke?|erinnere|fasse?|starte|beginne?|setze?|stelle?|rede|liefere|übersetze|rechne|runde|zitiere|sortiere|lösche|ändere|warte|bestätige|plane|buche|führe?|benenne|verzichte|höre?|bleibe?|sei)"
_AB_JETZT = (
    r"(?:ab (?:jetzt|sofort|heute)|von (?:jetzt|nun) an|in zukunft|künftig|zukünftig|standardmäßig|grundsätzlich)"
)

_rules = (
    Rule(kind="semantic", subject="name", confidence=0.9, pattern=words(rf"{_BEGIN}(?:mein (?:vor|nach)?name ist|ich heiße|nenn(?:e|t)? mich)\s+\S|{_BEGIN}nenn mich\b")),
    Rule(kind="semantic", subject="home", confidence=0.85, pattern=words(rf"{_ICH}(?:wohne|lebe)\b.*\b(?:in|bei|am|auf)\b|{_V}(?:wohne|lebe) ich\b.*\b(?:in|bei|am|auf)\b|{_ICH}bin\b.*\b(?:nach \S+.* gezogen|umgezogen)\b")),
    Rule(kind="semantic", subject="employer", pattern=words(rf"{_ICH}arbeite\b.*\b(?:bei|für)\b|{_V}arbeite ich\b.*\b(?:bei|für)\b")),
    Rule(kind="semantic", pattern=words(rf"{_ICH}arbeite\b.*\b(?:als|in|mit|im)\b|{_V}arbeite ich (?:als|im)\b")),
    Rule(kind="semantic", subject="age", pattern=words(rf"{_ICH}bin \d{{1,3}}(?: jahre alt)?\b")),
    Rule(kind="semantic", subject="birthday", pattern=words(rf"{_BEGIN}mein geburtstag ist\b|{_ICH}(?:bin|wurde) am .* geboren\b")),
    Rule(kind="semantic", subject="email", pattern=words(rf"{_BEGIN}meine (?:e-?mail|mail)(?:-?adresse)? (?:ist|lautet)\b")),
    Rule(kind="semantic", subject="phone number", pattern=words(rf"{_BEGIN}meine (?:telefon|handy)-?nummer (?:ist|lautet)\b")),
    Rule(kind="semantic", subject="address", pattern=words(rf"{_BEGIN}meine (?:adresse|anschrift) (?:ist|lautet)\b")),
    Rule(kind="preference", subject="language of answers", confidence=0.85, is_standing=True, pattern=words(r"^(?!.*\bnie(?:mals)?\b)(?=.*\b(?:immer|nur|stets|ab (?:jetzt|sofort|heute)|von (?:jetzt|nun) an|in zukunft|künftig)\b)(?:(?:und|bitte|also|immer|nur|stets|ab (?:jetzt|sofort|heute)|von (?:jetzt|nun) an|in zukunft|künftig|du sollst),? )*(?:(?:antworte|schreibe?|sprich|rede)\b(?! ich\b| wir\b).*|(?=.*\b(?:antworten|schreiben)[.!]*$))\bauf (?:einfachem )?(?:deutsch|englisch|französisch|spanisch|italienisch|portugiesisch|niederländisch|polnisch|russisch|türkisch|arabisch|chinesisch|japanisch|koreanisch)\b")),
    Rule(kind="preference", confidence=0.85, is_standing=True, pattern=words(rf"{_ICH}(?:bevorzuge|mag|möchte|will|hätte gern)\b[^.?]{{0,40}}\b(?:antworten|erklärungen|zusammenfassungen)\b")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(rf"{_BEGIN}(?:meine|unsere) (?!(?:tests|builds|jobs|anfragen|dienste|server|container|prozesse|skripte|programme|abfragen|aufträge|kinder|eltern|freunde|kollegen|kunden|nutzer|mitarbeiter|gäste)\b)[\w-]+(?: [\w-]+)? (?:(?:beginnen|fangen|enden) (?:immer |stets )?(?:mit|auf)|folgen|stehen immer (?:in|unter|bei)|heißen immer|schreibe ich)\b(?! eine[mr] (?:fehler|fehlermeldung|absturz|timeout)\b)|{_ICH}(?:schreibe|halte|führe|benenne|speichere|notiere|datiere|nummeriere) (?!(?:das|die|der|den|es|eine?[nrms]?|dies\w*|ihn|dir|mir|gerade|bücher|romane|artikel|lieder|gedichte|fotos|bilder|tiere)\b)[\w-]+ (?:[\w-]+ )?(?:in(?! (?:der|dem|den|die|das|eine[mr]|meine[mrn]?|unsere[mrn]?)\b)|als|mit|unter|ohne|nach)\b|{_V}(?:schreibe|halte|führe|benenne|speichere|notiere|datiere) ich (?:immer |stets |nur )?(?:in|als|mit|unter|ohne|nach)\b")),
    Rule(kind="preference", confidence=0.75, is_standing=True, pattern=words(r"^(?:(?:und|auch|bitte|aber),? )*(?:bevor|ehe) du (?:eine?[nrms]?|jede[nrs]?|meine|unsere|etwas|irgend\w*)\b[^?]{0,100}, (?:bitte |immer |erst |zuerst )*\w+")),
    Rule(kind="preference", subject="favourite", confidence=0.9, pattern=words(rf"{_BEGIN}mein[e]?\s+(?:absolute[srn]?\s+)?liebling(?:s)?(?P<subject>\w{{2,30}}) (?:ist|sind|war)\b")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_ICH}(?:bevorzuge|mag|liebe|hasse|esse|trinke|vermeide|verabscheue|schätze|hasse)\b(?! (?:das|es|ihn|sie|diese)\b[.!]?$)|{_V}(?:mag|esse|trinke|bevorzuge) ich\b|{_ICH}(?:kann|will|möchte)\b.*\b(?:nicht ausstehen|nicht leiden|nie(?:mals)?)\b|{_ICH}finde\b.*\b(?:besser als|schöner als|schrecklich|furchtbar|toll|großartig)\b")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_ICH}bin\b.*\b(?:allergisch|vegetarier(?:in)?|veganer(?:in)?|vegan|vegetarisch|laktoseintoleran\w*|farbenblind|linkshänder(?:in)?|fan von)\b|{_ICH}habe\b.*\ballergie\b")),
    Rule(kind="preference", confidence=0.85, is_standing=True, pattern=words(rf"^(?!.*\b(?:wann|ob|wie|warum|wo)\b)(?=.*\b(?:bitte|du|dir|dich|ich (?:will|möchte|bevorzuge|wünsche)|(?:will|möchte|wünsche) ich)\b).*\b{_AB_JETZT}\b|^(?:und |also )?{_TU}\b(?! ich\b| wir\b).*\b{_AB_JETZT}\b|\b{_AB_JETZT},? (?:{_TU}|keine?)\b(?! ich\b| wir\b)")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"\b{_AB_JETZT}\b")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(rf"^(?:bitte,? |und |wenn du [^,]{{3,60}}, )*(?:{_TU}\b(?! ich\b| wir\b)[^.?!]{{0,40}}?\b(?:immer|nie(?:mals)?)\b(?! (?:noch|wieder|mehr so))|(?:immer|nie(?:mals)?)\b(?! (?:noch|wieder|mehr))[^.?!]*\w+en[.!]*$)")),
    Rule(kind="preference", confidence=0.8, pattern=words(r"^(?:bitte,? |und |wenn du [^,]{3,60}, )*(?:\w+(?:e|t|en)?\s+)?(?:(?:mir|mich|uns|bitte|sie|den code)\s+)*(?:immer|nie(?:mals)?)\b(?! (?:noch|wieder|mehr so))")),
    Rule(kind="semantic", pattern=words(rf"{_ICH}(?:spreche|besitze|fahre|spiele|studiere|unterrichte|sammle|rauche)\s+\S|{_ICH}komme (?:ursprünglich )?aus\b|{_ICH}habe (?:einen?|eine|zwei|drei|vier|fünf|kein[en]?) (?!frage|problem|fehler|idee|ahnung|bug|skript|datei|funktion|termin|moment)\S|{_ICH}bin (?:kein[e]? )?(?:verheiratet|geschieden|ledig|verlobt|rentner(?:in)?|student(?:in)?|lehrer(?:in)?|ärztin|arzt|ingenieur(?:in)?|entwickler(?:in)?|selbstständig|freiberufler(?:in)?|schwanger|\w+(?:iker|in|ist|ent|eur)(?:in)?\b(?= (?:und|von beruf)|[.,!]|$))")),
    Rule(kind="semantic", subject="name of", pattern=words(rf"{_BEGIN}mein[e]?\s+(?P<subject>(?:neue[rs]? |alte[rs]? |ältere[rs]? |jüngere[rs]? )?{_RELATIVE}) heißt\b")),
    Rule(kind="semantic", pattern=words(rf"{_BEGIN}mein[e]?\s+(?:(?:neue[rs]? |alte[rs]? |ältere[rs]? |jüngere[rs]? )?{_RELATIVE}) (?:ist|sind|war|heißt|hat|wohnt|arbeitet|lebt)\b(?! (?:kaputt|langsam|abgestürzt|zu )\b)")),
    Rule(kind="episodic", pattern=words(rf"{_BEGIN}(?:ich|wir) (?:habe|haben|bin|sind)\b.*\b(?:gekauft|abgeschlossen|geheiratet|verlobt|befördert|gekündigt|besucht|adoptiert|veröffentlicht|unterschrieben|bestanden|gebucht|abgesagt|verkauft|gewonnen|umgezogen|gefahren|geflogen|gereist|ausgeliefert|migriert)\b")),
    Rule(kind="project_state", confidence=0.85, pattern=words(rf"{_BEGIN}(?:wir|ich) (?:haben|habe)\b.*\b(?:entschieden|beschlossen|geeinigt|festgelegt|verworfen|gewählt)\b|{_BEGIN}(?:wir|ich) (?:bleiben bei|wechseln (?:zu|auf)|steigen auf|nehmen)\b|{_BEGIN}(?:die|unsere) entscheidung (?:ist|war|fiel)\b|{_BEGIN}lass uns (?:bei|immer|nie)\b")),
    Rule(kind="project_state", pattern=words(rf"{_BEGIN}wir {_HOW}(?:verwenden|nutzen|benutzen|setzen|betreiben|hosten|deployen|speichern|unterstützen|arbeiten (?:mit|in)|brauchen)\b(?! (?:das|dies|es)\b)")),
    Rule(kind="project_state", pattern=words(rf"{_BEGIN}{_PROJECT}\s+{_HOW}(?:verwendet|nutzt|benutzt|läuft|liegt|heißt|braucht|benötigt|unterstützt|ist in|basiert|darf|muss)\s+\S")),
    Rule(kind="project_state", subject="project", pattern=words(rf"{_BEGIN}(?:unser[e]?|der|die|das) (?P<subject>(?:release|start|abgabe|liefer)?-?(?:termin|budget|deadline|frist)) (?:ist|liegt|wurde|verschiebt)\b")),
)  # fmt: skip

GERMAN = Language(
    name="German",
    doubtful=words(
        r"\?\s*[\"')“]*$|^(?:(?:und|aber|also|hallo|hi),?\s+)*(?:was|warum|wieso|wie|wer|wen|wem|wo|wann|welche[rsn]?|kannst|könntest|können|könnten|soll|sollte|darf|ist|sind|hast|habe ich|weißt du|erinnerst du)\b"
        r"|\b(?:angenommen|stell dir vor|nehmen wir an|was wäre|zum beispiel|z\.\s?b\.|wäre|hätte|würde|vielleicht|eventuell|möglicherweise|vermutlich|ich frage mich)\b|^(?:wenn|falls) (?!du\b)"
        r"|\b(?:sagt|sagte|meint|meinte|behauptet|schreibt|schrieb|denkt|laut|zufolge|hat gesagt)\b"
    ),
    asked=words(
        r"^(?:(?:bitte|und|auch|also|hallo),?\s+)*(?:merk(?:e)? dir|denk(?:e)? daran|vergiss nicht|behalte im kopf|beachte|notier(?:e)?(?: dir)?|zur info)(?: bitte)?\s*(?:,|:|–|-)?\s*(?:dass|folgendes:)?\s*:?\s*(?P<fact>\S.{3,})"
    ),
    own=words(r"\b(?:ich|wir|mein\w{0,2}|unser\w{0,2})\b"),
    at_hand=words(
        r"\b(?:hier|dies(?:e[rsnm]?)?|oben|unten|zeile \d+|gerade|morgen|gestern|am (?:montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag)|(?:nächste|letzte|kommende)[nrms]? (?:mal|woche|monat|jahr|\w+tag)|(?:in|auf|von|aus) (?:die|der|dem|den) (?:\w+ )?(?:tabelle|zeile|spalte|liste|datei|seite|funktion|klasse|formular|folie|kopfzeile))\b|(?<!ab )\bheute\b"
    ),
    rules=_rules,
)
