"""nanobot: its ``custom`` provider in ``~/.nanobot/config.json``.

Owns the address and the key of that provider, and that it is the one in use.
Seen to work with nanobot-ai 0.3.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaclaw.agents.documents.formats import JSON5
from metaclaw.agents.program import OURS, Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import found, text_at
from metaclaw.agents.programs.services import restart
from metaclaw.agents.texts import read_config


@dataclass(frozen=True, slots=True)
class Nanobot:
    """nanobot, of the package nanobot-ai."""

    name: str = "nanobot"
    title: str = "nanobot"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        return found(machine, ("nanobot",), _config(machine))

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        puts = (
            Put(place=("providers", "custom", "apiBase"), value=connection.openai_url),
            Put(place=("providers", "custom", "apiKey"), value=connection.token),
            Put(place=("agents", "defaults", "provider"), value="custom"),
            Put(place=("agents", "defaults", "model"), value=OURS),
        )
        return Plan(
            files=(FileEdit(path=_config(machine), form=JSON5, puts=puts),),
            notes=restart("nanobot gateway", "anew, if it runs"),
        )

    def endpoint(self, machine: Machine) -> str | None:
        config = read_config(JSON5, _config(machine))
        provider = text_at(config, "agents", "defaults", "provider")
        return text_at(config, "providers", provider or "", "apiBase")


def _config(machine: Machine) -> Path:
    return machine.home / ".nanobot" / "config.json"
