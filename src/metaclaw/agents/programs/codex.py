"""Codex: a provider in ``~/.codex/config.toml``.

Owns that provider, and that it is the one in use. The token stands in the file, as Codex offers, since the desktop
program and the editors do not see a shell's variables. Seen to work with 0.169.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaclaw.agents.documents.formats import TOML
from metaclaw.agents.program import OURS, Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import found, text_at
from metaclaw.agents.texts import read_config


@dataclass(frozen=True, slots=True)
class Codex:
    """OpenAI's Codex."""

    name: str = "codex"
    title: str = "Codex"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        return found(machine, ("codex",), _config(machine))

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        provider = {
            "name": "MetaClaw",
            "base_url": connection.openai_url,
            "wire_api": "responses",
            "experimental_bearer_token": connection.token,
        }
        puts = [Put(place=("model",), value=OURS), Put(place=("model_provider",), value=OURS)]
        puts += [
            Put(place=("model_providers", OURS, key), value=value, is_ours=True) for key, value in provider.items()
        ]
        return Plan(files=(FileEdit(path=_config(machine), form=TOML, puts=tuple(puts)),))

    def endpoint(self, machine: Machine) -> str | None:
        config = read_config(TOML, _config(machine))
        return text_at(config, "model_providers", text_at(config, "model_provider") or "", "base_url")


def _config(machine: Machine) -> Path:
    return machine.folder("CODEX_HOME", ".codex") / "config.toml"
