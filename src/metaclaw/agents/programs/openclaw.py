"""OpenClaw: a provider, the model in use, our plugin, and perhaps its memory slot, in ``~/.openclaw/openclaw.json``.

Owns those entries; refuses to touch its sandbox, its tools' permissions and the list of plugins that it trusts. A
running OpenClaw takes the change over by itself. Seen to work with 2026.9.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from metaclaw.agents.documents.document import MISSING, Item, value_at
from metaclaw.agents.documents.formats import JSON5
from metaclaw.agents.program import OURS, Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import found, text_at
from metaclaw.agents.texts import read_config

_MODEL = f"{OURS}/{OURS}"
_MEMORY = f"{OURS}-memory"
_DEFAULTS = ("agents", "defaults")
_MAX_ANSWER_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class OpenClaw:
    """OpenClaw."""

    name: str = "openclaw"
    title: str = "OpenClaw"
    serves_many: bool = True

    def find(self, machine: Machine) -> Found | None:
        return found(machine, ("openclaw",), _config(machine))

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        path = _config(machine)
        config = read_config(JSON5, path)
        puts = [Put(place=("models", "providers", OURS), value=_provider(connection), is_ours=True)]
        if value_at(config, (*_DEFAULTS, "models")) is not MISSING:  # a list of the models that may be used
            puts.append(Put(place=(*_DEFAULTS, "models", _MODEL), value={}, is_ours=True))
        if isinstance(value_at(config, (*_DEFAULTS, "model")), str):
            puts.append(Put(place=(*_DEFAULTS, "model"), value=_MODEL))
        else:
            puts.append(Put(place=(*_DEFAULTS, "model", "primary"), value=_MODEL))
        if connection.plugin is not None:
            puts += _plugin(OURS, connection.plugin, connection, {"hooks": {"allowConversationAccess": True}})
        if connection.memory_plugin is not None:
            puts += _plugin(_MEMORY, connection.memory_plugin, connection, {})
            puts.append(Put(place=("plugins", "slots", "memory"), value=_MEMORY))
        return Plan(
            files=(FileEdit(path=path, form=JSON5, puts=tuple(puts)),),
            notes=tuple(_notes(config, connection)),
        )

    def endpoint(self, machine: Machine) -> str | None:
        config = read_config(JSON5, _config(machine))
        model = text_at(config, *_DEFAULTS, "model", "primary") or text_at(config, *_DEFAULTS, "model") or ""
        return text_at(config, "models", "providers", model.partition("/")[0], "baseUrl")


def _provider(connection: Connection) -> dict[str, Any]:
    model = {
        "id": OURS,
        "name": "MetaClaw",
        "contextWindow": connection.context_tokens,
        "maxTokens": min(_MAX_ANSWER_TOKENS, connection.context_tokens // 2),
    }
    return {
        "baseUrl": connection.openai_url,
        "apiKey": connection.token,
        "api": "openai-completions",
        "models": [model],
    }


def _plugin(name: str, folder: Path, connection: Connection, rights: dict[str, Any]) -> Iterator[Put]:
    entry: dict[str, Any] = {"enabled": True, **rights}
    if connection.agent is not None:  # the token says who it is, and a header must not say otherwise
        entry["config"] = {"nameAgent": False}
    yield Put(place=("plugins", "load", "paths", Item(str(folder))), value=str(folder), is_ours=True)
    yield Put(place=("plugins", "entries", name), value=entry, is_ours=True)


def _notes(config: dict[str, Any], connection: Connection) -> Iterator[str]:
    for agent, facts in _agents(config):
        model = text_at(facts, "model") or text_at(facts, "model", "primary")
        if model and not model.startswith(f"{OURS}/"):
            yield f"OpenClaw's agent {agent!r} has a model of its own ({model}) and does not come through MetaClaw"
    if value_at(config, (*_DEFAULTS, "model", "fallbacks")) not in (MISSING, []):
        yield "agents.defaults.model.fallbacks are other models: what OpenClaw asks those, MetaClaw does not see"
    if connection.plugin is None:
        return
    allowed = value_at(config, ("plugins", "allow"))
    if isinstance(allowed, list) and allowed and OURS not in allowed:
        yield (
            "plugins.allow names the plugins that OpenClaw may load, and ours is not among them; that is your "
            f"list: add {OURS!r} to it yourself. Without the plugin, agent and session are read from the prompt"
        )
    if value_at(config, ("plugins", "enabled")) is False:
        yield "plugins.enabled is false: agent and session are read from the prompt"


def _agents(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    entries = value_at(config, ("agents", "entries"))
    if isinstance(entries, dict):
        yield from cast("dict[str, Any]", entries).items()
    listed = value_at(config, ("agents", "list"))  # as older releases have it
    if isinstance(listed, list):
        yield from ((text_at(agent, "id") or "?", agent) for agent in cast("list[Any]", listed))


def _config(machine: Machine) -> Path:
    named = machine.named("OPENCLAW_CONFIG_PATH")
    return named or machine.folder("OPENCLAW_STATE_DIR", ".openclaw") / "openclaw.json"
