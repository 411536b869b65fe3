"""``config.yaml``: found, read, edited, and handed to child processes.

Owns the file's place, the names in it, and what holds beside it (flags, METACLAW_*); refuses to know what a key means
(``metaclaw.config``) and how YAML is edited (``metaclaw.config_document``). Invariant: what is written is valid, whole
and under today's names.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr, ValidationError
from ruamel.yaml.comments import CommentedMap

from metaclaw import config_legacy
from metaclaw.config import Settings, unused_keys, with_cloud
from metaclaw.config_document import OpenDocument, keep_copy, one_writer, read_document
from metaclaw.config_keys import (
    Given,
    build_settings,
    is_section,
    known_key,
    list_names,
    numbered_variables,
    require_key,
    value_at,
    variables,
)
from metaclaw.config_names import steps_of
from metaclaw.errors import ConfigError

_OTHER_VARIABLES = {"METACLAW_HOME", "METACLAW_CACHE", "METACLAW_LOG"}
_FEW = 3  # warnings that one reads
_SECRETS = ("api_key", "api_keys", "oauth_token", "calendar.url", "calendar.password")  # how their names end

_log = logging.getLogger("metaclaw.config")


def find_home(home: Path | None = None, env: Mapping[str, str] = os.environ) -> Path:
    """``home`` itself, else METACLAW_HOME, else ``~/.metaclaw``; absolute."""
    return Path(home or env.get("METACLAW_HOME") or "~/.metaclaw").expanduser().absolute()


def config_path(home: Path) -> Path:
    """Where the file of ``home`` is; it need not exist. A link is followed, so that an edit does not replace it."""
    return (home / "config.yaml").resolve()


def has_settings(home: Path) -> bool:
    """Whether the file of ``home`` is there and not blank."""
    path = config_path(home)
    return path.exists() and bool(path.read_bytes().strip())


def require_settings(home: Path | None = None) -> None:
    """Raise ``ConfigError`` that names ``metaclaw setup`` when there is no file yet."""
    place = find_home(home)
    if not has_settings(place):
        raise ConfigError(f"there are no settings in {place} yet; run `metaclaw setup` first")


def load_settings(
    home: Path | None = None, env: Mapping[str, str] = os.environ, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """The settings that hold: ``overrides`` (flags) over METACLAW_* over the file over the defaults.

    ``overrides`` is keyed by dotted name; ``None`` is "not given". Old keys are logged as warnings. Raises
    ``ConfigError`` with one line that names the key.
    """
    settings, warnings = read_settings(home, env, overrides)
    for warning in warnings:
        _log.warning("configuration: %s", warning)
    if len(warnings) > _FEW and has_older_names(find_home(home, env)):
        _log.warning("configuration: `metaclaw config tidy` writes the file under today's names")
    return settings


def read_settings(
    home: Path | None = None, env: Mapping[str, str] = os.environ, overrides: Mapping[str, Any] | None = None
) -> tuple[Settings, list[str]]:
    """Like ``load_settings``, but returns what it would warn of."""
    place = find_home(home, env)
    path = config_path(place)
    given, warnings = _from_file(path) if path.exists() else ({}, [])
    given |= _from_env(env)
    warnings += _suspicious_variables(env) + config_legacy.old_variables(env)
    for name, value in (overrides or {}).items():
        if value is not None:
            given[require_key(name).name] = Given(value=value, origin="flag")
    config_legacy.rename_values(given, warnings)
    warnings += config_legacy.close_default_host(given, str(path))
    settings = with_cloud(build_settings(given, place), env)
    if "rl.backend" not in given:
        warnings += unused_keys(settings, env)
    return settings, warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class LooseFile:
    """A file as it is written: ``leaves`` by their own names, ``given`` by today's, and what a user should know."""

    leaves: Mapping[str, Any]
    given: dict[str, Given]
    warnings: tuple[str, ...]


def read_loosely(path: Path) -> LooseFile:
    """A file of an older system; a key that nobody knows is among the warnings. Raises ``ConfigError``."""
    leaves = {name: Given(value=value, origin=str(path)) for name, value in _leaves(read_document(path), "")}
    given, warnings = config_legacy.translate(leaves)
    unknown = [name for name in given if known_key(name) is None]
    warnings += [f"{name} is no setting of this release" for name in unknown]
    return LooseFile(
        leaves={name: entry.value for name, entry in leaves.items()},
        given={name: entry for name, entry in given.items() if name not in unknown},
        warnings=tuple(warnings),
    )


def get_value(settings: Settings, name: str, *, reveal: bool = False) -> str:
    """The value of one key as text; a secret that is set shows as ``***`` unless ``reveal``."""
    return _text(value_at(settings, _name_today(name)), reveal)


def set_value(home: Path, name: str, text: str) -> None:
    """Write one key into the file of ``home``; comments, order and every other key stay."""
    set_values(home, {name: text})


def set_values(home: Path, values: Mapping[str, Any]) -> None:
    """Write several keys at once. The file that results must be valid, or nothing is written.

    An empty text removes a key whose default is computed (``skills.dir``). Raises ``ConfigError``.
    """
    path = config_path(home)
    names = {_name_today(name): value for name, value in values.items()}
    with one_writer(path):
        _edit(path, names, home)


def has_older_names(home: Path) -> bool:
    """Whether the file of ``home`` has keys of an older release."""
    path = config_path(home)
    return path.exists() and any(config_legacy.is_legacy(name) for name, _ in _leaves(read_document(path), ""))


def tidy_names(home: Path) -> tuple[Path | None, list[str]]:
    """Write the file of ``home`` under today's names, without what does nothing here.

    Returns where the file is as it was, and what was said of the older names; ``None`` where there is nothing to do.
    What it means stays as it is. Raises ``ConfigError``, and then nothing was changed.
    """
    path = config_path(home)
    with one_writer(path):
        document = OpenDocument(path)
        written = dict(_leaves(document.data, ""))
        given, told = _known(document.data, path)
        told += config_legacy.close_default_host(given, str(path))
        changed = {name for name, entry in given.items() if name not in written or written[name] != entry.value}
        gone = written.keys() - given.keys()
        if not changed and not gone:
            return None, []
        settings = build_settings(given, home)
        copy = keep_copy(path)
        for name in gone:
            document.put(steps_of(name), None)
        for name in changed:
            document.put(steps_of(name), _plain(value_at(settings, name)))
        document.save()
    return copy, told


def agent_group(home: Path, agent: str) -> dict[str, Any]:
    """What the file of ``home`` says under ``agents`` of one agent, as it is written there."""
    path = config_path(home)
    agents = read_document(path).get("agents") if path.exists() else None
    group: object = cast("Mapping[str, Any]", agents).get(agent) if isinstance(agents, Mapping) else None
    return dict(cast("Mapping[str, Any]", group)) if isinstance(group, Mapping) else {}


def move_agent_group(home: Path, old: str, new: str | None) -> bool:
    """Put what is said of the agent ``old`` under ``new``, or take it out for ``None``; whether it was there."""
    path = config_path(home)
    if not path.exists():
        return False
    with one_writer(path):
        document = OpenDocument(path)
        agents = document.data.get("agents")
        if not isinstance(agents, CommentedMap) or old not in agents:
            return False
        place = list(cast("Mapping[str, Any]", agents)).index(old)
        group: Any = agents.pop(old)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if new is not None:
            agents.insert(place, new, group)  # pyright: ignore[reportUnknownMemberType]
        elif not agents:
            document.data.pop("agents")
        document.save()
    return True


def dump_settings(settings: Settings) -> str:
    """One line of JSON for a child process. It holds the secrets: write it to a pipe, never to a log."""
    return json.dumps(settings.model_dump() | {"home": settings.home}, default=_plain)


def parse_settings(line: str) -> Settings:
    """The settings that ``dump_settings`` wrote. Raises ``ConfigError``."""
    try:
        return Settings.model_validate_json(line)
    except ValidationError:
        # `from None`: pydantic's text would show the line, and the line holds secrets.
        raise ConfigError("no settings arrived on standard input; start this program with `metaclaw start`") from None


def _edit(path: Path, names: Mapping[str, Any], home: Path) -> None:
    document = OpenDocument(path)
    given = _known(document.data, path)[0]
    given |= {name: Given(value=_none_if_cleared(name, value), origin="given") for name, value in names.items()}
    config_legacy.rename_values(given, [])
    config_legacy.close_default_host(given, str(path))
    settings = build_settings(given, home)
    for name in names:
        document.put(steps_of(name), _plain(value_at(settings, name)))
    document.save()


def _from_file(path: Path) -> tuple[dict[str, Given], list[str]]:
    document = read_document(path)
    if not document:
        raise ConfigError(f"{path} holds no settings; run `metaclaw setup`, or delete the file for the defaults")
    given, warnings = _known(document, path)
    if _shows_secrets(document, path):
        warnings.append(f"{path} holds a key and can be read by others: run `chmod 600 {path}`")
    return given, warnings


def _shows_secrets(document: Mapping[str, Any], path: Path) -> bool:
    # By name, because the keys of older releases are secrets too. Windows keeps its permissions elsewhere.
    if os.name == "nt" or not path.stat().st_mode & 0o044:
        return False
    return any(
        name.endswith(_SECRETS) and value and not str(value).startswith("keyring:")
        for name, value in _leaves(document, "")
    )


def _known(document: Mapping[str, Any], path: Path) -> tuple[dict[str, Given], list[str]]:
    leaves = {name: Given(value=value, origin=str(path)) for name, value in _leaves(document, "")}
    given, warnings = config_legacy.translate(leaves)
    for name in given:
        require_key(name, str(path))
    return given, warnings


def _name_today(name: str) -> str:
    if why := config_legacy.why_ignored(name):
        raise ConfigError(f"{name} {why}")
    return require_key(config_legacy.current_name(name)).name


def _leaves(group: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in group.items():
        name = f"{prefix}{key}"
        if "." in str(key) and known_key(name):
            raise ConfigError(
                f"{name!r} is written with dots; in the file, indent {name.split('.')[-1]!r} under its group"
            )
        if name in list_names() and value is not None:
            yield from _entries(value, name)
        elif isinstance(value, Mapping):
            yield from _leaves(cast("Mapping[Any, Any]", value), f"{name}.")
        elif value is not None or not _may_be_empty(name):
            yield name, value  # `key:` with nothing behind it is "not set"


def _entries(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, list):
        raise ConfigError(f"{name} must be a list: each entry begins with '- '")
    for number, entry in enumerate(cast("list[Any]", value)):
        if not isinstance(entry, Mapping) or not entry:
            raise ConfigError(f"{name}.{number} must hold 'key: value' lines")
        yield from _leaves(cast("Mapping[Any, Any]", entry), f"{name}.{number}.")


def _may_be_empty(name: str) -> bool:
    return known_key(name) is not None or is_section(name) or config_legacy.is_legacy_group(name)


def _from_env(env: Mapping[str, str]) -> dict[str, Given]:
    names = {**variables(), **numbered_variables(env)}
    return {name: Given(value=env[variable], origin=variable) for variable, name in names.items() if env.get(variable)}


def _suspicious_variables(env: Mapping[str, str]) -> list[str]:
    # Other programs may own METACLAW_* names, so only what looks like a slip of the pen is mentioned.
    known = variables().keys() | numbered_variables(env).keys() | _OTHER_VARIABLES
    known |= config_legacy.VARIABLES.keys()  # of which more is said
    unknown = sorted(name for name in env if name.startswith("METACLAW_") and name not in known)
    close = ((name, difflib.get_close_matches(name, known, n=1, cutoff=0.85)) for name in unknown)
    return [f"{name} is not read; did you mean {match[0]}?" for name, match in close if match]


def _none_if_cleared(name: str, value: Any) -> Any:
    return None if value == "" and require_key(name).optional else value


def _text(value: Any, reveal: bool) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value() if reveal else "***" * bool(value.get_secret_value())
    if isinstance(value, tuple):
        return ",".join(_text(part, reveal) for part in cast("tuple[Any, ...]", value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return [_plain(part) for part in cast("tuple[Any, ...]", value)]
    return str(value) if isinstance(value, Path) else value
