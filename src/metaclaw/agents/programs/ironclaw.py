"""IronClaw: four variables in ``~/.ironclaw/.env``.

Owns those. By its documents; there is no package of it to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaclaw.agents.documents.formats import DOTENV
from metaclaw.agents.program import OURS, Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import found, text_at
from metaclaw.agents.programs.services import restart
from metaclaw.agents.texts import read_config


@dataclass(frozen=True, slots=True)
class IronClaw:
    """IronClaw."""

    name: str = "ironclaw"
    title: str = "IronClaw"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        return found(machine, ("ironclaw",), _env(machine))

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        puts = (
            Put(place=("LLM_BACKEND",), value="openai_compatible"),
            Put(place=("LLM_BASE_URL",), value=connection.openai_url),
            Put(place=("LLM_API_KEY",), value=connection.token),
            Put(place=("LLM_MODEL",), value=OURS),
        )
        return Plan(
            files=(FileEdit(path=_env(machine), form=DOTENV, puts=puts),),
            notes=restart("ironclaw service restart"),
        )

    def endpoint(self, machine: Machine) -> str | None:
        return text_at(read_config(DOTENV, _env(machine)), "LLM_BASE_URL")


def _env(machine: Machine) -> Path:
    return machine.home / ".ironclaw" / ".env"
