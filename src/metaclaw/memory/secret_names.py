"""What people call a secret, in many languages.

Owns the words and which sentences with them are kept back; refuses to know what keys look like. Invariant: where a
password is spoken of, the whole sentence is kept back, whatever its grammar: which word of it is the password nobody
can tell in every language. Passwords in general ("a password", "password manager") may be spoken of, where that is
sure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NOT_BLANK = re.compile(r"\S")
Span = tuple[int, int]

_LONGEST = 500  # characters of its sentence before a name and behind it

_END = re.compile(r"\n|[。！？]|[.!?](?=\s|$)")
# In these languages it is known how one speaks of passwords in general.
_PASSWORD = re.compile(
    r"(?:pass[ _-]?words?|pass[ _-]?phrases?|pass[ _-]?codes?|passwd|passw[oö]rt(?:e?s|er)?|kennw[oö]rt(?:e?s|er)?|wachtwoord(?:en)?|"
    r"(?<![^\W_])(?:pwd|mots? de passe|mdp|phrases? secrètes?|contrase[ñn]as?|senhas?|palavras?[- ]passe|parol[ae] d['’]ordine))(?!\w)",
    re.IGNORECASE,
)
_IN_GENERAL = re.compile(
    r"(?:^|[^\w'’])(?:an?|any|no|each|every|same|another|these|those|ein(?:e[nmrs]?)?|kein(?:e[nmrs]?)?|jede[nmrs]?|dasselbe|gleiche[nmrs]?|"
    r"un[ae]?|aucun|chaque|même|ning[uú]na?|cada|misma|nenhuma|mesma|nessuna|ogni|stessa|een|geen|elk|hetzelfde)"
    r"(?:\s+[\w-]+)?\s+$|\b(?:without|forget|forgot|ohne|sans|sin|sem|senza|zonder)\s+$",
    re.IGNORECASE,
)
_OF_THE_TRADE = re.compile(
    r"[\s-]+(?:managers?|polic(?:y|ies)|fields?|lengths?|strength|rules?|hash(?:es|ing)?|generators?|prompts?|forms?|resets?|less|protected)\b",
    re.IGNORECASE,
)
_SEVERAL = re.compile(
    r"(?:words|phrases|codes|wörter|mots de passe|contrase[ñn]as|senhas|wachtwoorden)$", re.IGNORECASE
)
_IS_VALUE = re.compile(  # what follows, or is called so
    r"[\"“”„«»`‘]|(?<!\w)['’]\w|[=:：→]|[^\W\d]\d|\d[^\W\d]|\b(?:is|are|was|as|called|like|namely|ist|lautet|als|namens|wie|est|sont|comme|es|son|como|é|são|è|come|zijn)\b",
    re.IGNORECASE,
)
_PASSWORD_ELSEWHERE = re.compile(
    r"(?<![^\W\d_])(?:lösenord|adgangskode|kodeord|passord|salasana|lykilorð|hasł[aoeu]|hasel|hesl[aoeu]|jelsz[óa]|parol(?:ă|a mea|am)|"
    r"lozink|gesl[aou]\b|парол|лозинк|κωδικ|συνθηματικ|şifre|sifre(?:m|si|n)|mật khẩu|kata ?sandi|kata laluan|nenosiri|nywila|[הבלו]?סיסמ|"
    r"كلم[ةه] (?:ال)?(?:مرور|سر)|الرقم السري|رمز عبور|گذرواژه|پاس ?ورڈ)"
    r"|รหัส|पासवर्ड|कूटशब्द|পাসওয়ার্ড|密[码碼]|口令|密[钥鑰]|パスワード|パスコード|パスフレーズ|暗証番号|合言葉|비밀번호|비번|암호|패스워드",
    re.IGNORECASE,
)
_MANAGED = re.compile(r"(?:.{0,3}(?:管理|マネージャ|관리)|学|學)")

# What else is called a secret, where something says what it is.
_NAME = (
    r"(?:pins?(?:[ -]?(?:code|number))?|cvv2?|cvc|(?:api|access|account|client|encryption|signing|deploy|licen[cs]e)[ _-]?keys?|[\w-]{0,40}(?:tokens?|secrets?)"
    r"|secret(?:[ _-]?(?:key|access[ _-]?key|word))s?|private[ _-]?keys?|recovery[ _-]?(?:code|phrase|key)s?|credentials|log[ -]?in data"
    r"|(?:seed|recovery|mnemonic)[ _-]?phrases?|security[ _-]?(?:code|number|answer)s?|social[ _-]?security(?:[ _-]?number)?|ssn"
    r"|zugangscode|zugangsdaten|anmeldedaten|geheimzahl|geheimnummer|api-?schlüssel|claves?(?: secreta| de acceso| de api)?|código secreto"
    r"|credenciales|credenciais|credenziali|identifiants|code secret|code pin|clés? (?:d['’])?api|codice segreto|ключ (?:api|доступа))"
)
_IS = (
    r"(?:\s*(?:=|:|：|->|→|['’]s\s|\s[–—-]\s)\s*|,?\s+(?:is|are|was|ist|sind|lautet|lauten|war|es|son|est|sont|c['’]est|era|sera|é|são|è|sono|to|as)\s+"
    r"(?:now\s+|still\s+|jetzt\s+|ahora\s+)?[:=]?\s*)"
)
_NAMED = re.compile(
    rf"(?<![^\W_]){_NAME}(?:\s+(?!(?:is|are|was|ist|es|est|è)\b)[\w.@'’-]+){{0,5}}?{_IS}[^\n]{{1,200}}", re.IGNORECASE
)
# Of these any word may be the value. Of a token or a key only what looks like one: "the token is valid for an hour".
_ANY_VALUE = re.compile(r"(?!(?:[\w-]*tokens?|licen[cs]e|account|client)\b)", re.IGNORECASE)
_LOOKS_LIKE_ONE = re.compile(r"(?=[^\s,;]*\d)(?=[^\s,;]*[^\W\d])[^\s,;]{6,}")

_CODE = re.compile(
    r"\b(?:(?:alarm|door|gate|garage|access|entry|unlock|lock|verification|confirmation|security|one[- ]time|log[- ]?in|backup|recovery|sms|safe|locker)[ -]?codes?"
    r"|combination (?:of|for|to) (?:the|my|our) (?:\w+ )?(?:safe|lock|locker|vault)|(?:safe|lock|locker) combination|zahlenkombination|digicode|pincode"
    r"|(?-i:PUK|TAN|OTP|2FA|MFA)|codes? (?:de (?:la|ma|ta|sa|notre|votre) (?:carte|porte|maison|résidence)|d['’](?:accès|entrée)"
    r"|de (?:vérification|confirmation|sécurité|déverrouillage)|du (?:portail|portillon|coffre|garage|parking))"
    r"|códigos? (?:de (?:la )?(?:alarma|puerta|acceso|verificación|seguridad|tarjeta|desbloqueo|porta|acesso)|del (?:portal|garaje))"
    r"|codice (?:di (?:accesso|verifica|sicurezza|sblocco)|del(?:la |l['’]| )(?:porta|allarme|cancello|carta|bancomat))"
    r"|code (?:van|voor) (?:de|het) (?:deur|poort|alarm|kluis))\b"
    r"|(?:tür|haustor|alarm|zugangs|bestätigungs|sicherheits|entsperr)-?codes?\b"
    r"|код (?:от|доступа|подтверждения)|验证码|驗證碼|認証コード|인증번호",
    re.IGNORECASE,
)
_ACCOUNT = re.compile(
    r"\b(?:account (?:number|no)|bank account|routing number|sort code|passport(?: number| no)?|driv(?:er['’]?s|ing) licen[cs]e|tax (?:id|number)|national id"
    r"|card numbers?|social security|konto(?:nummer|-?nr)?|kartennummer|ausweis(?:nummer)?|reisepass|passnummer|steuer-?(?:id|nummer)"
    r"|sozialversicherungsnummer|num[ée]ro de (?:compte|carte|sécurité sociale|passeport)|n[úu]mero de (?:la )?(?:cuenta|tarjeta|seguridad social|pasaporte|conta|cartão)"
    r"|codice fiscale|(?-i:DNI|NIE|NIF|CPF|BSN|PESEL)|снилс|инн|номер (?:сч[её]та|карты|паспорта))\b"
    r"|身份[证證]|[银銀]行卡|卡[号號]|マイナンバー|口座番号|カード番号|주민등록번호|계좌번호|카드 ?번호",
    re.IGNORECASE,
)
_NAMED_NUMBER = re.compile(r"\b(?:pin|cvv2?|cvc|geheimzahl)\b\D{0,12}\d[\d -]{2,9}", re.IGNORECASE)
_DATE = re.compile(r"\b\d{4}-\d{1,2}-\d{1,2}\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b")
_CODE_NUMBER = re.compile(r"(?<![\d.,])(?:[A-Z]?\d[ -]?){2,}[A-Z]?\d")
_ACCOUNT_NUMBER = re.compile(r"(?:[A-Z]{0,2}\d[ ./-]?){5,}\d")


def named_spans(text: str) -> Iterator[Span]:
    """What of ``text`` is kept back because of what it is called."""
    known = 0  # up to here it is kept back
    for match in _PASSWORD.finditer(text):
        if match.start() >= known and not _is_in_general(text, match):
            start, known = _sentence(text, *match.span())
            yield start, known
    for match in _PASSWORD_ELSEWHERE.finditer(text):
        if not _MANAGED.match(text, match.end()):
            yield _sentence(text, *match.span())
    for match in _NAMED.finditer(text):
        if _ANY_VALUE.match(match[0]) or _LOOKS_LIKE_ONE.search(match[0]):
            yield match.span()
    yield from (match.span() for match in _NAMED_NUMBER.finditer(text))
    for name, number in ((_CODE, _CODE_NUMBER), (_ACCOUNT, _ACCOUNT_NUMBER)):
        for match in name.finditer(text):
            start, end = _sentence(text, *match.span())
            if number.search(_DATE.sub(" ", text[start:end])):
                yield start, end


def _is_in_general(text: str, match: re.Match[str]) -> bool:
    start, end = _sentence(text, *match.span())
    if _OF_THE_TRADE.match(text, match.end()):
        return not re.search(r"[=:：]", text[match.end() : end])
    if not (_IN_GENERAL.search(text[start : match.start()]) or _SEVERAL.search(match[0])):
        return False
    return not _IS_VALUE.search(text[start : match.start()]) and not _IS_VALUE.search(text[match.end() : end])


def _sentence(text: str, start: int, end: int) -> Span:
    """The sentence around a name; with the next one, where the name ends it: there the value may be."""
    before = [one.end() for one in _END.finditer(text, max(0, start - _LONGEST), start)]
    first = before[-1] if before else max(0, start - _LONGEST)
    last = min(len(text), end + _LONGEST)
    closing = _END.search(text, end, last)
    if closing and not text[end : closing.start()].strip(" \t:：=\"'”’)»"):
        following = _NOT_BLANK.search(text, closing.end(), last)
        closing = _END.search(text, following.start(), last) if following else None
    return first, closing.start() if closing else last
