"""The dotted names of the settings: ``rl.judge.url`` and what is known of it.

Owns the walk over ``Settings``, the ``METACLAW_*`` name of each key, and the one line that tells a user which key is
wrong; refuses to know where a value came from beyond the name of that place. Invariant: the text of an error never
holds a secret, and it is always one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from metaclaw.config import Settings
from metaclaw.errors import ConfigError

# The name that the documentation promises; METACLAW_TRAIN_SERVER_API_KEY works as well and wins.
ENV_ALIASES = {"METACLAW_TRAIN_API_KEY": "train_server.api_key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingKey:
    """One setting, as a user names it."""

    name: str
    env: str
    description: str
    default: Any
    secret: bool
    optional: bool  # None means "the default is computed"
    annotation: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A value that somebody gave, and where: a file, a variable, a flag."""

    value: Any
    origin: str


@cache
def setting_keys() -> Mapping[str, SettingKey]:
    """Every key by its dotted name, in the order of the classes."""
    return {key.name: key for key in _walk(Settings, "")}


@cache
def section_names() -> Mapping[str, str]:
    """The name of every group of settings with its description."""
    return dict(_sections(Settings, ""))


def require_key(name: str, origin: str = "") -> SettingKey:
    """The key called ``name``, or a ``ConfigError`` that names the nearest one."""
    if name in setting_keys():
        return setting_keys()[name]
    place = f" ({origin})" if origin else ""
    if name in section_names():
        inside = ", ".join(key for key in setting_keys() if key.startswith(f"{name}."))
        raise ConfigError(f"{name!r} is a group of settings, not one{place}: {inside}")
    hint = nearest_key(name)
    suggestion = f"; did you mean {hint!r}?" if hint else "; `metaclaw config show` lists the keys"
    raise ConfigError(f"unknown key {name!r}{place}{suggestion}")


def nearest_key(name: str) -> str | None:
    """The valid key that looks most like ``name``; ``None`` when none does."""
    close = difflib.get_close_matches(name, setting_keys(), n=1, cutoff=0.7)
    if close:
        return close[0]
    leaves = {key.rsplit(".", 1)[-1]: key for key in reversed(list(setting_keys()))}
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], leaves, n=1, cutoff=0.7)
    return leaves[close[0]] if close else None


def value_at(settings: Settings, name: str) -> Any:
    """The value of the key ``name``; secrets stay wrapped."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def build_settings(given: Mapping[str, Given], home: Path) -> Settings:
    """``Settings`` from values by dotted name. Raises ``ConfigError``, one line."""
    nested: dict[str, Any] = {"home": home}
    for name, entry in given.items():
        *sections, leaf = name.split(".")
        group = nested
        for section in sections:
            group = group.setdefault(section, {})
        group[leaf] = entry.value
    try:
        return Settings.model_validate(nested)
    except ValidationError as error:
        # `from None`: pydantic's own text holds the input, which may be a secret.
        raise ConfigError(_explain(error.errors(include_url=False)[0], given)) from None


def _walk(model: type[BaseModel], prefix: str) -> Iterator[SettingKey]:
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        section = _section_class(field)
        if section is not None:
            yield from _walk(section, f"{prefix}{name}.")
        else:
            yield _setting_key(f"{prefix}{name}", field)


def _sections(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        section = _section_class(field)
        if section is not None:
            yield f"{prefix}{name}", (section.__doc__ or "").strip()
            yield from _sections(section, f"{prefix}{name}.")


def _section_class(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _setting_key(name: str, field: FieldInfo) -> SettingKey:
    return SettingKey(
        name=name,
        env="METACLAW_" + name.replace(".", "_").upper(),
        description=field.description or "",
        default=field.get_default(call_default_factory=True),
        secret=field.annotation is SecretStr,
        optional=type(None) in get_args(field.annotation),
        annotation=field.annotation,
    )


def _explain(error: ErrorDetails, given: Mapping[str, Given]) -> str:
    name = _key_of(error["loc"])
    message = error["msg"].removeprefix("Value error, ").replace("\n", " ")
    if name not in given:
        return f"{name}: {message}" if name else message
    entry, key = given[name], setting_keys()[name]
    shown = "***" if key.secret else repr(entry.value)
    if error["type"] == "string_type" and isinstance(entry.value, int | float):
        message += "; write it in quotes"
    return f"{name}: {shown} is not valid ({entry.origin}): {message}"


def _key_of(loc: tuple[int | str, ...]) -> str:
    # Inside a union, pydantic adds parts of its own behind the key: keep the longest start that is a name of ours.
    parts = [str(part) for part in loc]
    names = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    known = cast("dict[str, object]", {**setting_keys(), **section_names()})
    return next((name for name in names if name in known), ".".join(parts))
