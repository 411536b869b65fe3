"""hermes-agent: a provider in ``~/.hermes/config.yaml``.

Owns that provider, and that its model is the one in use. Seen to work with 0.19.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaclaw.agents.documents.formats import YAML
from metaclaw.agents.program import OURS, Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import found, text_at
from metaclaw.agents.programs.services import restart
from metaclaw.agents.texts import read_config


@dataclass(frozen=True, slots=True)
class Hermes:
    """Nous Research's hermes-agent."""

    name: str = "hermes"
    title: str = "hermes-agent"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        return found(machine, ("hermes",), _config(machine))

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        path = _config(machine)
        provider = {
            "base_url": connection.openai_url,
            "api_key": connection.token,
            "transport": "chat_completions",
            "default_model": OURS,
        }
        puts = [Put(place=("providers", OURS), value=provider, is_ours=True)]
        chosen: dict[str, Any] = {"default": OURS, "provider": OURS}
        if isinstance(read_config(YAML, path).get("model"), str):  # a name alone
            puts.append(Put(place=("model",), value=chosen))
        else:
            puts += [Put(place=("model", key), value=value) for key, value in chosen.items()]
        return Plan(
            files=(FileEdit(path=path, form=YAML, puts=tuple(puts)),),
            notes=restart("hermes gateway restart", "if its gateway runs"),
        )

    def endpoint(self, machine: Machine) -> str | None:
        config = read_config(YAML, _config(machine))
        return text_at(config, "providers", text_at(config, "model", "provider") or "", "base_url")


def _config(machine: Machine) -> Path:
    return machine.folder("HERMES_HOME", ".hermes") / "config.yaml"
