"""French: what people say that is worth remembering.

Owns the patterns; refuses to know what is done with them. Invariant: as for English; "ne" stands between "je" and the
verb and is kept with it.
"""

from __future__ import annotations

from metaclaw.memory.extraction.languages.language import Language, Rule, words

_BEGIN = r"(?:^|[,;:(–—-]\s*|\b(?:et|mais|car|donc|parce que|puisque|aussi|au fait|bonjour|salut|que|comme|alors)\b,?\s+)(?:moi,?\s+)?"
_JE = rf"{_BEGIN}(?:je\s+(?:ne\s+|n['’])?|j['’]|je n['’])"
_NOUS = rf"{_BEGIN}(?:nous\s+(?:ne\s+|n['’])?|on\s+(?:ne\s+|n['’])?)"
_RELATIVE = r"(?:femme|mari|épouse|époux|compagn(?:e|on)|copine|copain|mère|père|sœur|soeur|frère|fils|fille|enfants?|parents|grand-(?:mère|père)|chef(?:fe)?|patron(?:ne)?|collègue|chien(?:ne)?|chat(?:te)?|voiture|vélo|appartement|maison|hobby|entreprise|boîte|équipe|métier|travail|ordinateur|éditeur|langue maternelle|rendez-vous|mariage|examen)"
_PROJECT = r"(?:(?:notre|mon|ma|le|la|ce|cette|l['’])\s*(?:projet|dépôt|repo|service|application|appli|app|backend|frontend|base de données|api|site|cluster|pipeline|serveur|paquet|bibliothèque|produit|infrastructure|déploiement|entreprise|équipe))"

# Comment on le dit à un agent: "plante" et "écoute" n'en sont pas.
_TU = r"(?:réponds|utilise|emploie|écris|parle|fais|mets|évite|garde|ajoute|demande|donne|montre|explique|commence|termine|signe|appelle|tutoie|vouvoie|traduis|résume|cite|vérifie|lance|teste|sauvegarde|sois|reste|dis|envoie|laisse|prends|choisis|supprime|modifie|change|confirme|attends|planifie|réserve|inclus|indique|note|range|arrondis|(?:répond|utilis|employ|écriv|parl|mett|évit|gard|ajout|demand|donn|montr|expliqu|commenc|termin|sign|traduis|résum|vérifi|lanc|envoy|laiss|pren|choisiss|supprim|modifi|confirm)ez|faites|dites|soyez)"
_DESORMAIS = r"(?:à partir de maintenant|désormais|dorénavant|à l['’]avenir|par défaut)"

_rules = (
    Rule(kind="semantic", subject="name", confidence=0.9, pattern=words(rf"{_BEGIN}(?:je m['’]appelle|mon (?:nom|prénom) (?:est|c['’]est)|appelle[zs]?-moi)\s+\S")),
    Rule(kind="semantic", subject="home", confidence=0.85, pattern=words(rf"{_JE}(?:habite|vis|réside)\b.*\b(?:à|en|au|aux|dans|près|chez)\b|{_BEGIN}(?:j['’]ai (?:récemment )?(?:déménagé|emménagé)|je (?:viens de )?déménage\w*) (?:à|en|au|aux|dans)\b")),
    Rule(kind="semantic", subject="employer", pattern=words(rf"{_JE}(?:travaille|bosse)\b.*\b(?:chez|pour)\b")),
    Rule(kind="semantic", pattern=words(rf"{_JE}(?:travaille|bosse)\b.*\b(?:comme|dans|en tant|avec|à)\b")),
    Rule(kind="semantic", subject="age", pattern=words(rf"{_BEGIN}j['’]ai \d{{1,3}} ans\b")),
    Rule(kind="semantic", subject="birthday", pattern=words(rf"{_BEGIN}(?:mon anniversaire (?:est|c['’]est)|je suis née? (?:le|en|à))\b")),
    Rule(kind="semantic", subject="email", pattern=words(rf"{_BEGIN}mon (?:e-?mail|mail|courriel|adresse e-?mail) est\b|{_BEGIN}mon adresse (?:e-?)?mail est\b")),
    Rule(kind="semantic", subject="phone number", pattern=words(rf"{_BEGIN}mon (?:numéro(?: de téléphone)?|téléphone|portable) est\b")),
    Rule(kind="preference", subject="language of answers", confidence=0.85, is_standing=True, pattern=words(r"^(?!.*\bjamais\b)(?=.*\b(?:toujours|uniquement|désormais|dorénavant|à partir de maintenant|à l['’]avenir)\b)(?:(?:et|s['’]il (?:te|vous) plaît|désormais|dorénavant|à partir de maintenant|à l['’]avenir|toujours),? )*(?:réponds|répondez|écris|écrivez|parlez?)\b.*\ben (?:français|anglais|allemand|espagnol|italien|portugais|néerlandais|russe|arabe|chinois|japonais|coréen)\b")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(rf"{_BEGIN}(?:mes|nos) [\w-]+(?: [\w-]+)? (?:commencent|débutent|finissent|se terminent|suivent|s['’]écrivent)\b(?! (?:par|sur|avec) une? (?:erreur|plantage)\b)|{_JE}(?:écris|note|nomme|garde|range|date) (?:toujours )?(?:les|mes) [\w-]+ (?:en (?!bas\b|haut\b|ville\b)|comme\b|avec\b|sans\b)|{_JE}(?:préfère|aime|veux|voudrais)\b[^.?]{{0,40}}\b(?:réponses|explications)\b")),
    Rule(kind="preference", confidence=0.75, is_standing=True, pattern=words(r"^(?:(?:et|aussi|mais),? )*avant d(?:e |['’])(?:me |m['’])?\w+ (?:une?|chaque|tout|l['’]un de mes|mes?|mon|ma)\b[^?]{0,100}, (?:s['’]il te plaît,? )?\w+")),
    Rule(kind="preference", subject="favourite", confidence=0.9, pattern=words(rf"{_BEGIN}(?:mon|ma) (?P<subject>[\w ]{{2,30}}?) (?:préférée?|favorite?|favori) (?:est|c['’]est|sont)\b")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_JE}(?:préfère|aime(?!rais)|adore|déteste|évite|mange|bois|supporte|apprécie)\b(?! (?:ça|cela|ceci)\b)")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"{_JE}suis\s+(?:pas\s+|plus\s+)?(?:allergique|végétarienn?e?|végane?|vegan|intolérante?|daltonienn?e?|gauch[eè]r?e?|fan de)\b")),
    Rule(kind="preference", confidence=0.85, is_standing=True, pattern=words(rf"^(?:et )?{_DESORMAIS},? (?:s['’]il (?:te|vous) plaît,? )?(?:{_TU}\b|(?:ne |n['’])\w+ (?:pas|jamais|plus)\b|tu |vous |pas de |plus de |aucune? |sans |je (?:veux|préfère|souhaite)\b)|^(?:et )?(?:ne |n['’])?{_TU}\b.*\b{_DESORMAIS}\b")),
    Rule(kind="preference", confidence=0.85, pattern=words(rf"\b{_DESORMAIS}\b")),
    Rule(kind="preference", confidence=0.8, is_standing=True, pattern=words(rf"^(?:s['’]il (?:te|vous) plaît,? |et |quand [^,]{{3,80}}, )*(?:ne\s+|n['’])?{_TU}(?:-moi)?\s+(?:toujours|jamais)\b")),
    Rule(kind="preference", confidence=0.8, pattern=words(r"^(?:s['’]il (?:te|vous) plaît,? |et |quand [^,]{3,80}, )*(?:(?:ne\s+|n['’])?\w+(?:-moi)?\s+)(?:toujours|jamais)\b")),
    Rule(kind="semantic", pattern=words(rf"{_JE}(?:parle (?!de\b|à\b)|viens d(?:e |u |['’])(?!\w+er\b)|joue d|étudie|enseigne|collectionne|fume)\S*|{_JE}suis (?:pas )?(?:une? )?(?:\w+(?:eur|euse|ier|ière|iste|ienne?|ecte|ant|ante)|médecin|avocate?|père|mère|étudiante?|mariée?|divorcée?|célibataire|retraitée?|enceinte|indépendante?)\b|{_BEGIN}j['’]ai (?:une?|deux|trois|quatre|cinq) (?!question|problème|erreur|idée|bug|fichier|fonction|doute|réunion|rendez)\S")),
    Rule(kind="semantic", subject="name of", pattern=words(rf"{_BEGIN}(?:mon|ma|mes) (?P<subject>{_RELATIVE}) s['’]appelle\b")),
    Rule(kind="semantic", pattern=words(rf"{_BEGIN}(?:mon|ma|mes) (?:{_RELATIVE}) (?:est|s['’]appelle|a|habite|travaille|sont|était)\b")),
    Rule(kind="episodic", pattern=words(rf"{_BEGIN}(?:j['’]ai|nous avons|on a|je viens d['’e]\s?|nous venons d['’e]\s?)\s*(?:enfin |juste |déjà )?(?:achet\w+|termin\w+|fini\w*|visit\w+|adopt\w+|sign\w+|lanc\w+|publi\w+|déploy\w+|migr\w+|réserv\w+|annul\w+|vend\w+|gagn\w+|démissionn\w+)\b|{_JE}(?:suis|me suis) (?:allée?|partie?|mariée?|fiancée?)\b")),
    Rule(kind="project_state", confidence=0.85, pattern=words(rf"{_BEGIN}(?:nous avons|on a|j['’]ai) (?:finalement )?(?:décidé|convenu|choisi|opté|retenu|écarté|abandonné)\b|{_BEGIN}(?:on reste sur|on passe à|nous passons à|la décision est)\b")),
    Rule(kind="project_state", pattern=words(rf"{_NOUS}(?:utilis|déploy|héberge|stock|travaill|support|maint)\w+\b(?! (?:ça|cela)\b)")),
    Rule(kind="project_state", pattern=words(rf"{_BEGIN}{_PROJECT} (?:ne |n['’])?(?:utilise|tourne|est (?:écrit|hébergé|en)|s['’]appelle|nécessite|supporte|dépend|doit|se trouve)\b")),
    Rule(kind="project_state", subject="project", pattern=words(rf"{_BEGIN}(?:notre|la|le) (?P<subject>date (?:limite|de sortie|de livraison)|budget|échéance|délai) (?:est|sera|a été)\b")),
)  # fmt: skip

FRENCH = Language(
    name="French",
    doubtful=words(
        r"\?\s*[\"')»]*$|^(?:(?:et|mais|bonjour|salut),?\s+)*(?:que|qu['’]est|quoi|pourquoi|comment|qui|quel(?:le)?s?|où|quand est|combien|peux-tu|pouvez-vous|pourrais|pourriez|est-ce|dois-je|sais-tu|tu te souviens)\b"
        r"|\b(?:supposons|imagine|imaginons|par exemple|hypothétiquement|et si|serait|aurait|serais|aurais|peut-être|je me demande|j['’]aimerais|je voudrais)\b|^s(?:i (?!tu\b|vous\b)|['’]il (?!te|vous))"
        r"|\b(?:dit|disait|selon|d['’]après|affirme|écrit|pense|prétend|m['’]a dit)\b"
    ),
    asked=words(
        r"^(?:(?:s['’]il (?:te|vous) plaît|et|aussi),?\s+)*(?:souviens-toi|rappelle-toi|souvenez-vous|retiens|retenez|n['’]oublie pas|n['’]oubliez pas|note[zs]?(?: bien)?|garde en tête)\s*(?:que\b|qu['’]|:|,)\s*(?P<fact>\S.{3,})"
    ),
    own=words(r"(?:\b(?:je|nous|on|mon|ma|mes|notre|nos)\b|\bj['’])"),
    at_hand=words(
        r"\b(?:ici|cet(?:te)?|ces|ce (?!que\b|qui\b|sont\b)\w+|ci-des\w+|ligne \d+|aujourd['’]hui|demain|hier|(?:lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche) (?:prochain|dernier)|la prochaine fois)\b"
    ),
    rules=_rules,
)
