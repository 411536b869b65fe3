"""ZeroClaw: provider, model and key at the top of ``~/.zeroclaw/config.toml``.

Owns those three. By its documents; there is no package of it to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaclaw.agents.documents.formats import TOML
from metaclaw.agents.program import OURS, Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import found, text_at
from metaclaw.agents.programs.services import restart
from metaclaw.agents.texts import read_config

_CUSTOM = "custom:"


@dataclass(frozen=True, slots=True)
class ZeroClaw:
    """ZeroClaw."""

    name: str = "zeroclaw"
    title: str = "ZeroClaw"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        return found(machine, ("zeroclaw",), _config(machine))

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        puts = (
            Put(place=("default_provider",), value=f"{_CUSTOM}{connection.openai_url}"),
            Put(place=("default_model",), value=OURS),
            Put(place=("api_key",), value=connection.token),
        )
        return Plan(
            files=(FileEdit(path=_config(machine), form=TOML, puts=puts),),
            notes=restart("zeroclaw service restart"),
        )

    def endpoint(self, machine: Machine) -> str | None:
        provider = text_at(read_config(TOML, _config(machine)), "default_provider") or ""
        return provider.removeprefix(_CUSTOM) if provider.startswith(_CUSTOM) else None


def _config(machine: Machine) -> Path:
    return machine.home / ".zeroclaw" / "config.toml"
