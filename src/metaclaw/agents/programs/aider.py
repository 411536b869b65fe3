"""aider: ``~/.aider.conf.yml``.

Owns three keys there; the files of a repository, which come before it, are the user's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaclaw.agents.config_files import is_there
from metaclaw.agents.documents.formats import YAML
from metaclaw.agents.program import OURS, Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import text_at
from metaclaw.agents.texts import read_config


@dataclass(frozen=True, slots=True)
class Aider:
    """aider."""

    name: str = "aider"
    title: str = "aider"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        config = _config(machine)
        place = machine.which("aider") or (config if is_there(config) else None)
        return Found(place=place, config=config) if place else None

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        puts = (
            Put(place=("openai-api-base",), value=connection.openai_url),
            Put(place=("openai-api-key",), value=connection.token),
            Put(place=("model",), value=f"openai/{OURS}"),
        )
        return Plan(files=(FileEdit(path=_config(machine), form=YAML, puts=puts),))

    def endpoint(self, machine: Machine) -> str | None:
        return text_at(read_config(YAML, _config(machine)), "openai-api-base")


def _config(machine: Machine) -> Path:
    return machine.home / ".aider.conf.yml"
