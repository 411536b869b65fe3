"""CoPaw, called QwenPaw today: a provider of ours beside its folder, and which model is active.

Owns a file that is wholly ours and two keys of another. QwenPaw writes the key in that file anew, encrypted, when it
first reads it. By the sources of copaw 1.0.2, and run with qwenpaw 2.2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaclaw.agents.config_files import is_there
from metaclaw.agents.documents.formats import JSON5
from metaclaw.agents.program import OURS, Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import found, text_at
from metaclaw.agents.programs.services import restart
from metaclaw.agents.texts import read_config


@dataclass(frozen=True, slots=True)
class QwenPaw:
    """QwenPaw, or CoPaw, as it was called."""

    name: str = "qwenpaw"
    title: str = "QwenPaw (CoPaw)"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        return found(machine, ("qwenpaw", "copaw"), _active(machine), folder=_working(machine))

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        provider = {
            "id": OURS,
            "name": "MetaClaw",
            "base_url": connection.openai_url,
            "api_key": connection.token,
            "chat_model": "OpenAIChatModel",
            "is_custom": True,
            "extra_models": [{"id": OURS, "name": "MetaClaw"}],
        }
        return Plan(
            files=(
                FileEdit(
                    path=_providers(machine) / "custom" / f"{OURS}.json",
                    form=JSON5,
                    puts=tuple(Put(place=(key,), value=value, is_ours=True) for key, value in provider.items()),
                    is_ours=True,
                ),
                FileEdit(
                    path=_active(machine),
                    form=JSON5,
                    puts=(Put(place=("provider_id",), value=OURS), Put(place=("model",), value=OURS)),
                ),
            ),
            notes=(*restart("qwenpaw daemon restart"), "an agent with a model of its own keeps that one"),
        )

    def endpoint(self, machine: Machine) -> str | None:
        chosen = text_at(read_config(JSON5, _active(machine)), "provider_id")
        if chosen is None or not chosen.replace("-", "").replace("_", "").isalnum():
            return None
        return text_at(read_config(JSON5, _providers(machine) / "custom" / f"{chosen}.json"), "base_url")


def _working(machine: Machine) -> Path:
    if machine.env.get("QWENPAW_WORKING_DIR"):
        return machine.folder("QWENPAW_WORKING_DIR", "")
    old = machine.folder("COPAW_WORKING_DIR", ".copaw")
    return old if is_there(old) else machine.home / ".qwenpaw"


def _providers(machine: Machine) -> Path:
    variable = next((name for name in ("QWENPAW_SECRET_DIR", "COPAW_SECRET_DIR") if machine.env.get(name)), None)
    working = _working(machine)
    secret = machine.folder(variable, "") if variable else working.with_name(f"{working.name}.secret")
    return secret / "providers"


def _active(machine: Machine) -> Path:
    return _providers(machine) / "active_model.json"
