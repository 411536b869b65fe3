"""Secrets in the system's keyring. The keyring here is a package of the same name with a secret or two."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaclaw.config import Settings
from metaclaw.config_file import get_value, read_settings, set_value
from metaclaw.config_keyring import resolve_secrets
from metaclaw.errors import ConfigError, MissingExtraError

KEYRING = """
from keyring import errors

def get_password(service, name):
    if name == "locked":
        raise errors.KeyringError("secret words of the system")
    return {("metaclaw", "llm"): "sk-1", ("metaclaw", "odd"): "a\\nb"}.get((service, name))
"""


@pytest.fixture
def _a_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "packages" / "keyring"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(KEYRING)
    (package / "errors.py").write_text("class KeyringError(Exception): ...\n")
    _forget(monkeypatch)
    monkeypatch.syspath_prepend(str(package.parent))
    yield
    _forget(monkeypatch)


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "keyring"]:
        monkeypatch.delitem(sys.modules, name)


def settings(**llm: object) -> Settings:
    return Settings.model_validate({"llm": {"api_base": "http://127.0.0.1:9/v1", **llm}, "proxy": {"api_key": "mine"}})


@pytest.mark.usefixtures("_a_keyring")
def test_every_secret_may_be_in_the_keyring_also_those_in_lists():
    fallback = {"api_base": "http://127.0.0.1:9/v1", "api_key": "keyring:llm"}
    given = settings(api_key="keyring:llm", api_keys=["sk-0", "keyring:llm"], fallbacks=[fallback])
    found = resolve_secrets(given)
    assert found.llm.api_key.get_secret_value() == "sk-1"
    assert [key.get_secret_value() for key in found.llm.api_keys] == ["sk-0", "sk-1"]
    assert found.llm.fallbacks[0].api_key.get_secret_value() == "sk-1"
    assert (found.proxy, found.home) == (given.proxy, given.home)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "llm.api_key is 'keyring:nothing'.*`keyring set metaclaw nothing`"),
        ("locked", "llm.api_key is in the system's keyring, which cannot be read: KeyringError$"),
        ("odd", "llm.api_key: what the keyring has"),
    ],
)
@pytest.mark.usefixtures("_a_keyring")
def test_a_secret_that_cannot_be_had_is_an_error_that_says_which_and_shows_none(name: str, says: str):
    with pytest.raises(ConfigError, match=says):
        resolve_secrets(settings(api_key=f"keyring:{name}"))


def test_without_such_a_value_no_keyring_is_needed_and_with_one_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    _forget(monkeypatch)
    monkeypatch.setitem(sys.modules, "keyring", None)
    plain = settings(api_key="sk-2")
    assert resolve_secrets(plain) is plain
    with pytest.raises(MissingExtraError, match=r"metaclaw\[keyring\]"):
        resolve_secrets(settings(api_key="keyring:llm"))


@pytest.mark.usefixtures("_a_keyring")
def test_what_was_looked_up_never_gets_into_the_file(tmp_path: Path):
    set_value(tmp_path, "llm.api_key", "keyring:llm")
    set_value(tmp_path, "llm.model_id", "m")
    assert "keyring:llm" in (tmp_path / "config.yaml").read_text()
    assert "sk-1" not in (tmp_path / "config.yaml").read_text()
    assert get_value(resolve_secrets(read_settings(tmp_path, {})[0]), "llm.api_key", reveal=True) == "sk-1"
