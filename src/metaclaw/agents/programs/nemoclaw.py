"""NemoClaw: a provider of OpenShell's, to which it sends what the sandbox asks of a model.

Owns the commands that make it and take it back; refuses to touch the sandbox and its network policy. By OpenShell's
documents; not run by us.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from metaclaw.agents.program import OURS, Command, Connection, Found, Machine, Plan
from metaclaw.errors import WiringError

_ROUTE = re.compile(r"^\s*(provider|model):\s*(\S+)\s*$", re.IGNORECASE | re.MULTILINE)
_HOST = "host.openshell.internal"  # what OpenShell calls this machine
_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class NemoClaw:
    """NVIDIA's NemoClaw."""

    name: str = "nemoclaw"
    title: str = "NemoClaw"
    serves_many: bool = False

    def find(self, machine: Machine) -> Found | None:
        place = machine.which("openshell") if machine.which("nemoclaw") else None
        return Found(place=place, config=None) if place else None

    def plan(self, connection: Connection, machine: Machine) -> Plan:
        before = _route(machine)
        url = f"http://{_HOST}:{urlsplit(connection.url).port}/v1"
        verb = ("update", OURS) if before.get("provider") == OURS else ("create", "--name", OURS, "--type", "openai")
        provider = ("openshell", "provider", *verb, "--credential", _KEY, "--config", f"OPENAI_BASE_URL={url}")
        undo: tuple[Command, ...] = ()
        if before.get("provider") != OURS:
            undo = (_delete(),) if not before else (_set(before["provider"], before["model"]), _delete())
        return Plan(
            commands=(
                Command(argv=provider, why="the gateway, as a provider", env={_KEY: connection.token}),
                _set(OURS, OURS),
            ),
            undo=undo,
            known_as=f"http://{_HOST}",
            notes=(
                f"OpenShell reaches this machine as {_HOST}: the gateway must listen where its containers can reach it "
                f"(proxy.host), and know that name (`metaclaw config proxy.allowed_hosts {_HOST}`)",
            ),
        )

    def endpoint(self, machine: Machine) -> str | None:
        return None if _route(machine).get("provider") != OURS else f"http://{_HOST}"


def _route(machine: Machine) -> dict[str, str]:
    """The provider and the model that are in use; nothing when none are."""
    said = machine.ask("openshell", "inference", "get")
    if said is None:
        raise WiringError("`openshell inference get` failed; is OpenShell's gateway running? Nothing was changed")
    found = {name.lower(): value for name, value in reversed(_ROUTE.findall(said))}
    return found if found.keys() == {"provider", "model"} else {}


def _set(provider: str, model: str) -> Command:
    argv = ("openshell", "inference", "set", "--provider", provider, "--model", model)
    return Command(argv=argv, why="where the sandbox's questions go", env={})


def _delete() -> Command:
    return Command(argv=("openshell", "provider", "delete", OURS), why="the provider of ours", env={})
