"""Claude Code: ``env`` in ``~/.claude/settings.json``.

Owns which variables it is given there; refuses to touch the shell's. Seen to work with 2.1.331.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaclaw.agents.documents.formats import JSON5
from metaclaw.agents.program import OURS, Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import found, text_at
from metaclaw.agents.texts import read_config


@dataclass(frozen=True, slots=True)
class ClaudeCode:
    """Anthropic's Claude Code."""

    name: str = "claude-code"
    title: str = "Claude Code"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        return found(machine, ("claude",), _settings(machine))

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        path = _settings(machine)
        env = {
            "ANTHROPIC_BASE_URL": connection.url,
            "ANTHROPIC_AUTH_TOKEN": connection.token,
            "ANTHROPIC_MODEL": OURS,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": OURS,  # what it asks for titles and the like
        }
        notes: list[str] = []
        settings = read_config(JSON5, path)
        if "apiKeyHelper" in settings:
            notes.append(f"{path} has an apiKeyHelper, whose key Claude Code may send in place of the gateway's token")
        if text_at(settings, "env", "ANTHROPIC_API_KEY"):
            notes.append(f"{path} sets ANTHROPIC_API_KEY too; Claude Code warns of that, and uses the token")
        puts = tuple(Put(place=("env", name), value=value) for name, value in env.items())
        return Plan(files=(FileEdit(path=path, form=JSON5, puts=puts),), notes=tuple(notes))

    def endpoint(self, machine: Machine) -> str | None:
        return text_at(read_config(JSON5, _settings(machine)), "env", "ANTHROPIC_BASE_URL")


def _settings(machine: Machine) -> Path:
    return machine.folder("CLAUDE_CONFIG_DIR", ".claude") / "settings.json"
