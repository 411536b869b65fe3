"""PicoClaw: a model in ``~/.picoclaw/config.json``.

Owns that entry of ``model_list``, and that it is the default. By its documents; there is no package of it to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from metaclaw.agents.documents.document import Item
from metaclaw.agents.documents.formats import JSON5
from metaclaw.agents.program import OURS, Connection, FileEdit, Found, Machine, Plan, Put
from metaclaw.agents.programs.places import found, text_at
from metaclaw.agents.programs.services import restart
from metaclaw.agents.texts import read_config


@dataclass(frozen=True, slots=True)
class PicoClaw:
    """PicoClaw."""

    name: str = "picoclaw"
    title: str = "PicoClaw"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        return found(machine, ("picoclaw",), _config(machine))

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        path = _config(machine)
        model = {
            "model_name": OURS,
            "model": f"openai/{OURS}",
            "api_base": connection.openai_url,
            "api_key": connection.token,
        }
        puts = (
            Put(place=("model_list", Item(OURS, "model_name")), value=model, is_ours=True),
            Put(place=("agents", "defaults", _default_key(read_config(JSON5, path))), value=OURS),
        )
        return Plan(
            files=(FileEdit(path=path, form=JSON5, puts=puts),),
            notes=restart("picoclaw gateway restart"),
        )

    def endpoint(self, machine: Machine) -> str | None:
        config = read_config(JSON5, _config(machine))
        chosen = text_at(config, "agents", "defaults", _default_key(config))
        models = cast("list[Any]", config.get("model_list") or [])
        return next((text_at(model, "api_base") for model in models if text_at(model, "model_name") == chosen), None)


def _default_key(config: dict[str, Any]) -> str:
    # Older releases call it "model"; whichever a file has is the one that its release reads.
    defaults = config.get("agents", {}).get("defaults", {})
    return "model" if "model" in defaults and "model_name" not in defaults else "model_name"


def _config(machine: Machine) -> Path:
    given = machine.env.get("PICOCLAW_CONFIG")
    return Path(given).absolute() if given else machine.folder("PICOCLAW_HOME", ".picoclaw") / "config.json"
