"""opencode: a provider in its global ``opencode.json`` or ``opencode.jsonc``.

Owns that provider, and that its model is the one in use; a project's own file, which comes before it, is the user's.
Seen to work with 1.18.33.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaclaw.agents.documents.formats import JSON5
from metaclaw.agents.program import OURS, Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import first_there, found, text_at
from metaclaw.agents.texts import read_config


@dataclass(frozen=True, slots=True)
class OpenCode:
    """opencode."""

    name: str = "opencode"
    title: str = "opencode"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        return found(machine, ("opencode",), _config(machine))

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "MetaClaw",
            "options": {"baseURL": connection.openai_url, "apiKey": connection.token},
            "models": {OURS: {"name": "MetaClaw"}},
        }
        puts = (
            Put(place=("provider", OURS), value=provider, is_ours=True),
            Put(place=("model",), value=f"{OURS}/{OURS}"),
        )
        return Plan(files=(FileEdit(path=_config(machine), form=JSON5, puts=puts),))

    def endpoint(self, machine: Machine) -> str | None:
        config = read_config(JSON5, _config(machine))
        provider = (text_at(config, "model") or "").partition("/")[0]
        return text_at(config, "provider", provider, "options", "baseURL")


def _config(machine: Machine) -> Path:
    if named := machine.named("OPENCODE_CONFIG"):
        return named
    folder = machine.folder("XDG_CONFIG_HOME", ".config") / "opencode"
    return first_there(folder / "opencode.json", folder / "opencode.jsonc", folder / "config.json")
