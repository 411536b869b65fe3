"""The dotted names of the settings: ``rl.judge.url`` and what is known of it.

Owns the walk over ``Settings``, the ``METACLAW_*`` name of each key, and the one line that tells a user which key is
wrong; refuses to know where a value came from beyond the name of that place. In a list of groups a number names the
entry (``llm.fallbacks.0.api_key``); what is known of all its entries stands under ``N`` in the number's place, and what
is known of every agent under ``agents.ID``.
Invariant: the text of an error never holds a secret, and it is always one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from metaclaw.config import AgentsSettings, Settings
from metaclaw.config_names import ID, is_template, steps_of, template_of
from metaclaw.errors import ConfigError

# The name that the documentation promises; METACLAW_TRAIN_SERVER_API_KEY works as well and wins.
ENV_ALIASES = {"METACLAW_TRAIN_API_KEY": "train_server.api_key"}

_EVERY_AGENT = f"agents.{ID}"


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


@cache
def list_names() -> frozenset[str]:
    """The name of every list of groups."""
    return frozenset(name.removesuffix(".N") for name in section_names() if name.endswith(".N"))


def names_in(settings: Settings) -> Iterator[str]:
    """The name of every setting that there is a value for: those of a list once for each entry, as those of agents."""
    for listed, group in groupby(setting_keys(), key=_listed):
        names = list(group)
        if listed == _EVERY_AGENT:
            for agent in settings.agents.named:
                yield from (name.replace(_EVERY_AGENT, f"agents.{agent}", 1) for name in names)
        elif listed:
            for number in range(len(value_at(settings, listed))):
                yield from (name.replace(".N.", f".{number}.", 1) for name in names)
        else:
            yield from names


@cache
def variables() -> Mapping[str, str]:
    """The name of the setting of every environment variable that has a fixed name; aliases first."""
    return ENV_ALIASES | {key.env: key.name for key in setting_keys().values() if not is_template(key.name)}


def numbered_variables(env: Mapping[str, str]) -> dict[str, str]:
    """Those of ``env`` that name a setting of an entry of a list, as METACLAW_LLM_FALLBACKS_0_API_KEY."""
    found: dict[str, str] = {}
    for listed in list_names():
        start = f"{_env(listed)}_"
        for variable in sorted(name for name in env if name.startswith(start)):
            number, _, leaf = variable.removeprefix(start).partition("_")
            if key := known_key(f"{listed}.{number}.{leaf.lower()}"):
                found[variable] = key.name
    return found


def is_section(name: str) -> bool:
    """Whether ``name`` is that of a group, of a list of groups, or of an entry of one."""
    return template_of(name) in section_names() or name in list_names()


def known_key(name: str) -> SettingKey | None:
    """The key called ``name``; ``None`` when there is none."""
    key = None if is_template(name) else setting_keys().get(template_of(name))
    return key if key is None or key.name == name else replace(key, name=name, env=_env(name))


def require_key(name: str, origin: str = "") -> SettingKey:
    """The key called ``name``, or a ``ConfigError`` that names the nearest one."""
    if key := known_key(name):
        return key
    place = f" ({origin})" if origin else ""
    if name in list_names():
        raise ConfigError(f"{name!r} is a list of groups{place}: name one setting of an entry, as {name}.0.provider")
    if name in section_names():
        inside = ", ".join(key for key in setting_keys() if key.startswith(f"{name}."))
        raise ConfigError(f"{name!r} is a group of settings, not one{place}: {inside}")
    hint = nearest_key(name)
    suggestion = f"; did you mean {hint!r}?" if hint else "; `metaclaw config show` lists the keys"
    raise ConfigError(f"unknown key {name!r}{place}{suggestion}")


def nearest_key(name: str) -> str | None:
    """The valid key that looks most like ``name``; ``None`` when none does."""
    listed = max((key for key in list_names() if name.startswith(f"{key}.")), key=len, default=None)
    if listed is not None:
        inside = [key for key in setting_keys() if key.startswith(f"{listed}.N.")]
        return next(iter(difflib.get_close_matches(template_of(name), inside, n=1, cutoff=0.7)), None)
    if name.startswith("agents.") and name.count(".") > 1:
        agent, _, inner = name.removeprefix("agents.").partition(".")
        known = [key.removeprefix(f"{_EVERY_AGENT}.") for key in setting_keys() if key.startswith(f"{_EVERY_AGENT}.")]
        close = difflib.get_close_matches(inner, known, n=1, cutoff=0.6)
        return f"agents.{agent}.{close[0]}" if close else None
    close = difflib.get_close_matches(name, setting_keys(), n=1, cutoff=0.7)
    if close:
        return close[0]
    leaves = {key.rsplit(".", 1)[-1]: key for key in reversed(list(setting_keys()))}
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], leaves, n=1, cutoff=0.7)
    return leaves[close[0]] if close else None


def value_at(settings: Settings, name: str) -> Any:
    """The value of the key ``name``; secrets stay wrapped."""
    value: Any = settings
    for step in steps_of(name):
        value = _step(value, step, name)
    return value


def build_settings(given: Mapping[str, Given], home: Path) -> Settings:
    """``Settings`` from values by dotted name. Raises ``ConfigError``, one line."""
    nested: dict[str, Any] = {"home": home}
    for name, entry in given.items():
        _require_text(name, entry)
        *sections, leaf = steps_of(name)
        group = nested
        for section in sections:
            group = group.setdefault(section, {})
        group[leaf] = entry.value
    for name in list_names():
        _number(nested, name)
    try:
        return Settings.model_validate(nested)
    except ValidationError as error:
        # `from None`: pydantic's own text holds the input, which may be a secret.
        raise ConfigError(_explain(error.errors(include_url=False)[0], given)) from None


def _require_text(name: str, entry: Given) -> None:
    value: object = entry.value
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    try:
        "".join(one for one in values if isinstance(one, str)).encode()
    except UnicodeEncodeError:  # a byte that is no UTF-8, or half a surrogate pair: no program could be told of it
        raise ConfigError(f"{name}: what is there is not UTF-8 text ({entry.origin})") from None


def _number(nested: dict[str, Any], name: str) -> None:
    """Make the list called ``name`` of its entries by number."""
    *sections, leaf = name.split(".")
    group = nested
    for section in sections:
        group = group.get(section, {})
    entries: dict[str, Any] = group.get(leaf, {})
    missing = [number for number in map(str, range(len(entries))) if number not in entries]
    if missing:
        raise ConfigError(f"{name}.{missing[0]} is missing: the entries of {name} are counted from 0, without gaps")
    if entries:
        group[leaf] = [entries[str(number)] for number in range(len(entries))]


def _step(value: Any, step: str, name: str) -> Any:
    if isinstance(value, AgentsSettings) and step not in AgentsSettings.model_fields:
        if step not in value.named:
            raise ConfigError(f"{name} is not set: no agent {step!r} has settings of its own")
        return value.named[step]
    if isinstance(value, BaseModel):
        return getattr(value, step)
    if int(step) >= len(value):
        raise ConfigError(f"{name} is not set: there are {len(value)} entries, counted from 0")
    return value[int(step)]


def _listed(name: str) -> str:
    """The list that the key ``name`` is inside of, ``agents.ID`` for one of every agent, else nothing."""
    if name.startswith(f"{_EVERY_AGENT}."):
        return _EVERY_AGENT
    return name.partition(".N.")[0] if ".N." in name else ""


def _env(name: str) -> str:
    return "METACLAW_" + name.replace(".", "_").upper()


def _walk(model: type[BaseModel], prefix: str) -> Iterator[SettingKey]:
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        if section := _section_class(field):
            yield from _walk(section, f"{prefix}{name}.")
            if issubclass(section, AgentsSettings):
                yield from _walk(section.entry, f"{_EVERY_AGENT}.")
        elif entry := _entry_class(field):
            yield from _walk(entry, f"{prefix}{name}.N.")
        else:
            yield _setting_key(f"{prefix}{name}", field)


def _sections(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        section, entry = _section_class(field), _entry_class(field)
        kind, path = (section, f"{prefix}{name}") if section else (entry, f"{prefix}{name}.N")
        if kind:
            yield path, (kind.__doc__ or "").strip()
            yield from _sections(kind, f"{path}.")
            if issubclass(kind, AgentsSettings):
                yield _EVERY_AGENT, (kind.entry.__doc__ or "").strip()
                yield from _sections(kind.entry, f"{_EVERY_AGENT}.")


def _section_class(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _entry_class(field: FieldInfo) -> type[BaseModel] | None:
    """The class of the entries of a list of groups."""
    kind = next(iter(get_args(field.annotation)), None)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_holds_secret, get_args(annotation)))


def _setting_key(name: str, field: FieldInfo) -> SettingKey:
    return SettingKey(
        name=name,
        env=_env(name),
        description=field.description or "",
        default=field.get_default(call_default_factory=True),
        secret=_holds_secret(field.annotation),
        optional=type(None) in get_args(field.annotation),
        annotation=field.annotation,
    )


def _explain(error: ErrorDetails, given: Mapping[str, Given]) -> str:
    name = _key_of(error["loc"])
    message = error["msg"].removeprefix("Value error, ").replace("\n", " ")
    if name not in given:
        return f"{name}: {message}" if name else message
    entry, key = given[name], require_key(name)
    shown = "***" if key.secret else repr(entry.value)
    if error["type"] == "string_type" and isinstance(entry.value, int | float):
        message += "; write it in quotes"
    return f"{name}: {shown} is not valid ({entry.origin}): {message}"


def _key_of(loc: tuple[int | str, ...]) -> str:
    # Inside a union, pydantic adds parts of its own behind the key: keep the longest start that is a name of ours.
    parts = [str(part) for part in loc]
    names = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((name for name in names if known_key(name) or is_section(name)), ".".join(parts))
