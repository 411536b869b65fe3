"""How a program stands to us: is it here, whom does it ask, did we connect it, is that still so?

Owns putting that together; refuses to change anything. Invariant: a file that cannot be read is a state, not an error,
so that one broken program does not hide the others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from metaclaw.agents.config_files import digest, read_file
from metaclaw.agents.ledger import Ledger
from metaclaw.agents.program import AgentProgram, Machine
from metaclaw.errors import WiringError

State = Literal["absent", "found", "connected", "changed", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStatus:
    """``endpoint`` is whom it asks now; ``changed`` files are those that are not as we wrote them."""

    name: str
    title: str
    state: State
    place: str | None = None
    endpoint: str | None = None
    agent: str | None = None
    trouble: str | None = None

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """One line for a person."""
        if self.state == "absent":
            return "not on this machine"
        if self.state == "unreadable":
            return f"{self.place}: {self.trouble}"
        asks = f"asks {self.endpoint}" if self.endpoint else "asks a model of its own choice"
        if self.state == "found":
            return f"{self.place}: {asks}; `metaclaw connect {self.name}`"
        who = f"as agent {self.agent}" if self.agent else "its agents by their own names"
        return f"connected, {who}: {asks}" + (f" ({self.trouble})" if self.trouble else "")


def read_status(
    program: AgentProgram, machine: Machine, ledger: Ledger, *, gateway: str | None = None
) -> ProgramStatus:
    """How ``program`` stands on ``machine``; ``gateway`` is where the gateway is now, as far as that is known."""
    found = program.find(machine)
    place = str(found.place) if found else None
    try:
        record = ledger.read(program.name)
        if found is None and record is None:
            return ProgramStatus(name=program.name, title=program.title, state="absent")
        endpoint = program.endpoint(machine) if found else None
        if record is None:
            return ProgramStatus(
                name=program.name, title=program.title, state="found", place=place, endpoint=endpoint
            )  # fmt: skip
        is_as_written = all(digest(read_file(file.path) or b"") == file.after for file in record.files)
    except WiringError as error:
        return ProgramStatus(
            name=program.name, title=program.title, state="unreadable", place=place, trouble=str(error)
        )  # fmt: skip
    trouble = None
    if not (endpoint or "").startswith(record.known_as or record.url):
        trouble = f"not the gateway's {record.url}: `metaclaw connect {program.name}` again"
    elif gateway is not None and gateway != record.url:
        trouble = f"the gateway is at {gateway} now: `metaclaw connect {program.name}` again"
    elif not is_as_written:
        trouble = "its file was changed since; our entries hold"
    return ProgramStatus(
        name=program.name, title=program.title, state="connected" if is_as_written else "changed", place=place,
        endpoint=endpoint, agent=record.agent, trouble=trouble,
    )  # fmt: skip
