"""Secrets: whatever stands around them, they are not kept."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.memory.secrets import MARK, holds_secret, redact
from tests.memory.extraction.saying import found

# Put together here, so that no scanner takes this file for a leak.
PREFIXES = (
    "sk-", "sk-ant-api03-", "sk_" + "live_", "AKIA", "gh" + "p_", "github" + "_pat_", "glpat-", "xox" + "b-", "AIza",
    "hf_", "npm_", "tml-",
)  # fmt: skip
NAMES = (
    "my password is {}", "Password: {}", "the passphrase is {}", "my PIN is {}", "api key = {}",
    "the wifi password for home is {}", "Mein Passwort ist {}", "Das Kennwort lautet {}", "mi contraseña es {}",
    "mon mot de passe est {}", "我的密码是{}", "パスワードは{}です",
)  # fmt: skip
AROUND = (
    "{}", "Remember that {}", "I live in Oslo and {}.", "We use Postgres; {}", "please remember: {}", "From now on, {}",
)  # fmt: skip
_PASSWORD = st.text(string.ascii_letters + string.digits + "!#%", min_size=3, max_size=20)
_WORD = st.text(string.ascii_letters + string.digits, min_size=24, max_size=40)


@given(prefix=st.sampled_from(PREFIXES), rest=_WORD, around=st.sampled_from(AROUND))
def test_a_known_key_is_never_kept(prefix, rest, around):
    said = around.format(f"our key {prefix}{rest} works")
    assert rest not in redact(said)[0]
    assert all(rest not in finding.text for finding in found(said))


@given(name=st.sampled_from(NAMES), secret=_PASSWORD, around=st.sampled_from(AROUND))
def test_what_is_called_a_password_is_never_kept(name, secret, around):
    said = around.format(name.format(secret))
    redacted, number = redact(said)
    assert number >= 1
    assert MARK in redacted
    assert all(not holds_secret(finding.text) for finding in found(said))
    assert all(secret not in re.split(r"\W+", finding.text) for finding in found(said) if len(secret) > 8)


def luhn(digits: list[int]) -> int:
    total = sum(d if i % 2 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(reversed(digits)))
    return -total % 10


@given(digits=st.lists(st.integers(0, 9), min_size=15, max_size=15), by=st.sampled_from(["", " ", "-"]))
def test_a_card_number_is_never_kept(digits, by):
    digits = [4, 2, *digits[2:]]
    number = "".join(map(str, [*digits, luhn(digits)]))
    written = by.join(number[i : i + 4] for i in range(0, 16, 4))
    said = f"Remember that my card is {written} and I live in Oslo."
    assert written not in redact(said)[0]
    assert all(written not in finding.text for finding in found(said))


@given(account=st.text(string.digits, min_size=18, max_size=18))
def test_an_account_number_is_never_kept(account):
    check = 98 - int(f"{account}131400") % 97
    iban = f"DE{check:02d}{account}"
    spaced = " ".join(iban[i : i + 4] for i in range(0, 22, 4))
    for written in (iban, spaced):
        assert account not in redact(f"Remember that my account is {written}.")[0].replace(" ", "")


@pytest.mark.parametrize(
    "said",
    [
        "postgres://admin:pa55@db.example/prod", "https://example.org/cb?access_token=abc123&x=1",
        "Authorization: Bearer abcdef.123456", "123-45-6789", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE\nabc\n-----END RSA " + "PRIVATE KEY-----", "my pin code 4711",
        "d41d8cd98f00b204e9800998ecf8427e", "wJalrXUtnFEMI7K7MDENG5bPxRfiCY8EXAMPLE2KEY",
    ],
)  # fmt: skip
def test_other_secrets_are_recognised(said):
    redacted, number = redact(f"Remember this: {said} and go on")
    assert number >= 1
    assert said not in redacted


# As people say them: what is in braces must not be kept.
SAID = (
    # What is a password is told by its place in the sentence, which is another in every language.
    "I use {hunter2} as my password", "{hunter2} is my password", "my login is bob and {hunter} for the password",
    "log in with bob / {hunter} (password)", "set the wifi password to {sunflower}", "My password's {sunflower}",
    "Here is the password. {sunflower}!", "I use a password that is {sunflower}", 'my password is "{sun flower}"',
    "Merk dir {gartenzwerg} als mein Passwort", "Das WLAN-Passwort ist {gartenzwerg}",
    "Meine Zugangsdaten: bob / {zwerg}",
    "Le mot de passe du wifi, c'est {soleil}", "La contraseña del wifi de casa de mi madre en el pueblo es {girasol}",
    "A senha do wifi é {girassol}", "La mia password è {girasole}", "La parola d'ordine è {girasole}",
    "Mijn wachtwoord is {zonnebloem}", "Moje hasło to {slonecznik}", "Мой пароль — {подсолнух}",
    "мой пароль {подсолнух}",
    "Мій пароль: {соняшник}", "Şifrem {aycicegi}", "Mitt lösenord är {solros}", "Ο κωδικός μου είναι {ηλιοτρόπιο}",
    "登录密码改成了{向日葵}", "パスワードは{ひまわり}です", "비밀번호는 {해바라기}입니다", "와이파이 비번: {해바라기}",
    "كلمة المرور هي {زهرة}", "כתבתי: הסיסמה שלי היא {חמנייה}", "मेरा पासवर्ड {सूरजमुखी} है", "รหัสผ่านคือ {ทานตะวัน}",
    "Mật khẩu của tôi là {huongduong}", "Kata sandi saya adalah {bungamatahari}",
    # As programs are told them.
    "DB_PASS={hunter}", '{{"password": "{hunter}"}}', "token: {abcdefgh}", "curl -u bob:{hunter} https://example.org",
    "mysql -u root -p{hunter} app", "machine example login bob password {hunter}", "redis://:{hunter}@host:6379/0",
    "Server=db;User ID=bob;Password={Hunter};", "AccountKey={abcd1234efgh5678};Suffix=core",
    '"auth": "{Ym9iOmh1bnRlcjI=}"',
    "https://hooks.slack.com/services/{T000/B000/XXXX}", "wJalrXUtnFEMI/{K7MDENG/bPxRfiCYEXAMPLEKEY}",
    # Numbers by which somebody gets in, pays, or is somebody.
    "The alarm code is {4711}", "Der Türcode ist {4711}", "Le digicode est {47B11}",
    "Le code de ma carte est le {4711}",
    "Your verification code is {482913}", "My backup codes are {1234-5678}", "Die PIN meiner Karte ist {4711}",
    "My bank account number is {12345678}", "Meine Kontonummer ist {1234567}", "My passport number is {C01X00T47}",
    "我的卡号是{４１１１１１１１１１１１１１１１}", "my card is {4111.1111.1111.1111}", "iban {de89370400440532013000}",
    "{legal winner thank year wave sausage worth useful legal winner thank yellow}",
)  # fmt: skip


@pytest.mark.parametrize("said", SAID)
def test_a_secret_is_known_by_what_is_said_of_it_in_any_language(said):
    secret = re.findall(r"(?<!{){([^{}]+)}", said)[-1]
    redacted, _ = redact(said.replace("{" + secret + "}", secret))
    assert secret not in redacted


@pytest.mark.parametrize(
    "said",
    [
        "I live in Zurich and work at Acme.", "My phone number is 0171 2345678.", "Call me on Monday at 10:30.",
        "The repository is at github.com/acme/very-long-repository-name-of-ours.", "We use Python 3.12 and uv 0.4.",
        "The run was 123e4567-e89b-12d3-a456-426614174000.", "Our invoice number is 20261125.", "我住在上海。",
        "internationalization_and_localization_2024_guide", "My keyboard is a Keychron K2.",
        "I never use the same password twice.", "Ich verwende nie dasselbe Passwort zweimal.",
        "We rotate passwords every 90 days.",
        "The password manager of the team is Bitwarden.", "Je n'utilise jamais le même mot de passe.",
        "密码学是我的专业。",
        "My passport expires on 2027-05-06.", "Ich war nie in 10115 Berlin.", "I have an RTX 4090 card.",
        "I paid 12000 yen by card.",
        "max_tokens: 4096",
        "The token is valid for an hour.", "The error code is 404.", "Our site works without a password.",
        "Compass: north",
        "My notes are in src/MetaClaw/MyModule/FooBarBaz2/ReadMe.", "AbstractSingletonProxyFactoryBean2Configuration",
        "Le code du serveur écoute sur le port 8080.", "I pass the exam on Monday and my key principle is honesty.",
        "I am allergic to nuts and my daughter likes red apples and green pears.",
    ],
)  # fmt: skip
def test_what_is_harmless_stays(said):
    assert redact(said) == (said, 0)
