"""No program: the gateway serves whoever asks it.

Owns saying so; refuses to change anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaclaw.agents.program import Connection, Found, Machine, Plan


@dataclass(frozen=True, slots=True)
class NoProgram:
    """Whatever speaks OpenAI's or Anthropic's API, pointed here by hand."""

    name: str = "none"
    title: str = "none (another program, by hand)"
    serves_many: bool = True

    def find(self, machine: Machine) -> Found | None:
        return Found(place=Path(), config=None)

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        return Plan(
            notes=(
                f"OpenAI's API is at {connection.openai_url}, Anthropic's at {connection.url}; "
                "`metaclaw tokens create NAME --agent main` makes a key",
            )
        )

    def endpoint(self, machine: Machine) -> str | None:
        return None
