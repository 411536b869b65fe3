"""Secrets that are kept in the system's keyring.

Owns values of the form ``keyring:NAME`` and their look-up under the service ``metaclaw``; refuses to know where
settings are from. Invariant: what was looked up lives in memory only; a secret that is not there is an error that names
the setting and the command, never an empty key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import SecretStr, ValidationError

from metaclaw.config import Settings
from metaclaw.errors import ConfigError
from metaclaw.extras import load_backend

SERVICE = "metaclaw"
_PREFIX = "keyring:"


def resolve_secrets(settings: Settings) -> Settings:
    """``settings`` with every ``keyring:NAME`` looked up. Raises ``ConfigError`` or ``MissingExtraError``."""
    dumped = settings.model_dump()
    resolved = _resolved(dumped, "")
    if resolved == dumped:
        return settings
    try:
        return Settings.model_validate({**resolved, "home": settings.home})
    except ValidationError as error:
        # `from None`: pydantic's own text may hold the input.
        place = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise ConfigError(f"{place}: what the keyring has for it cannot be a key; store it again") from None


def _resolved(value: Any, place: str) -> Any:
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return SecretStr(_look_up(text.removeprefix(_PREFIX), place)) if text.startswith(_PREFIX) else value
    if isinstance(value, Mapping):
        group = cast(Mapping[str, Any], value)
        return {key: _resolved(inner, f"{place}.{key}" if place else key) for key, inner in group.items()}
    if isinstance(value, list | tuple):
        members = cast("list[Any]", value)
        return tuple(_resolved(inner, f"{place}[{index}]") for index, inner in enumerate(members))
    return value


def _look_up(name: str, place: str) -> str:
    keyring: Any = load_backend("keyring", extra="keyring")
    errors: Any = load_backend("keyring.errors", extra="keyring")
    try:
        secret = keyring.get_password(SERVICE, name)
    except errors.KeyringError as error:
        raise ConfigError(
            f"{place} is in the system's keyring, which cannot be read: {type(error).__name__}"
        ) from error
    if not secret:
        raise ConfigError(
            f"{place} is '{_PREFIX}{name}', and the keyring has no such secret: store it with "
            f"`keyring set {SERVICE} {name}`"
        )
    return secret
