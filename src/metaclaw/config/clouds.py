"""Which training cloud is meant, and whose variables are looked at for its key.

Owns `rl.backend: auto` and the variables that the clouds' own SDKs read; refuses to know the SDKs. Invariant: a key is
only ever used for the cloud that it belongs to, and where that cannot be told, it is asked for.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr, TypeAdapter, ValidationError

from metaclaw.config.learning import RlSettings
from metaclaw.config.settings import Settings
from metaclaw.config_types import ApiKey, HttpUrl
from metaclaw.errors import ConfigError

CloudName = Literal["tinker", "mint", "weaver"]
CLOUDS: tuple[CloudName, ...] = ("tinker", "mint", "weaver")

_KEYS: tuple[tuple[str, CloudName], ...] = (("tml-", "tinker"), ("eyJ", "tinker"), ("sk-mint-", "mint"))


def with_cloud(settings: Settings, env: Mapping[str, str]) -> Settings:
    """``settings`` with the cloud that ``auto`` means, and with its key and address where ``env`` has them.

    Raises ``ConfigError`` where a policy is trained and it cannot be told whose the key is.
    """
    rl = settings.rl
    if rl.backend == "remote":
        return settings
    try:
        name: CloudName | None = _meant(rl, env) if rl.backend == "auto" else rl.backend
    except ConfigError:
        if settings.trains:
            raise
        return settings
    changes: dict[str, object] = {"backend": name or "remote"}
    if name is not None:
        changes |= _from_variables(rl, name, env)
    return settings.model_copy(update={"rl": rl.model_copy(update=changes)})


def unused_keys(settings: Settings, env: Mapping[str, str]) -> list[str]:
    """What to say of keys of training clouds in ``env`` where something is trained, and not in a cloud."""
    if not settings.trains or settings.rl.backend != "remote":
        return []
    return [
        f"{name.upper()}_API_KEY is set and not used: it is trained at rl.remote_url; for the cloud set rl.backend to "
        f"{name}"
        for name in CLOUDS
        if _variable(env, name, "API_KEY")
    ]


def bridge_key(settings: Settings) -> SecretStr:
    """The key of the sampling bridge, which everybody who has the settings can work out and nobody else."""
    secret = settings.proxy.api_key.get_secret_value() or settings.rl.api_key.get_secret_value()
    return SecretStr(hmac.new(secret.encode(), b"metaclaw sampling bridge", "sha256").hexdigest())


def _meant(rl: RlSettings, env: Mapping[str, str]) -> CloudName | None:
    key, url = rl.api_key.get_secret_value(), rl.base_url
    of_url: list[CloudName] = [name for name in CLOUDS if name in (urlsplit(url).hostname or "")]
    of_key: list[CloudName] = [name for start, name in _KEYS if key.startswith(start)]
    named: list[CloudName] = of_url or of_key
    if not named:
        named = [name for name in CLOUDS if any(_variable(env, name, what) for what in ("API_KEY", "BASE_URL"))]
    if len(named) == 1:
        return named[0]
    if not named and not key and not url:
        return None
    why = f"it could be {' or '.join(named)}" if named else "neither rl.api_key nor rl.base_url says whose it is"
    raise ConfigError(
        f"rl.backend 'auto' does not tell which training cloud is meant: {why}. Write "
        f"rl.backend: {', '.join(CLOUDS)} or remote"
    )


def _from_variables(rl: RlSettings, name: CloudName, env: Mapping[str, str]) -> dict[str, object]:
    # Each from its own place: a key goes to the address that was given, or to that cloud's own.
    found: dict[str, object] = {}
    if not rl.api_key.get_secret_value() and (key := _variable(env, name, "API_KEY")):
        found["api_key"] = _checked(f"{name.upper()}_API_KEY", TypeAdapter(ApiKey), SecretStr(key))
    if not rl.base_url and (url := _variable(env, name, "BASE_URL")):
        found["base_url"] = _checked(f"{name.upper()}_BASE_URL", TypeAdapter(HttpUrl), url)
    return found


def _checked(variable: str, kind: TypeAdapter[object], value: object) -> object:
    try:
        return kind.validate_python(value)
    except ValidationError as error:  # `from None`: pydantic's text may hold the key
        raise ConfigError(f"{variable}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _variable(env: Mapping[str, str], name: CloudName, what: str) -> str:
    return env.get(f"{name.upper()}_{what}", "").strip()
