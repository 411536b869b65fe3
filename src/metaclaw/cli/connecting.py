"""What ``metaclaw connect`` and ``disconnect`` put together: a plan, a token of the gateway, and the record of both.

Owns the order of these: what is asked comes before anything is made, the record before the files. Refuses to print.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from metaclaw.agents import commands, wiring
from metaclaw.agents.config_files import write_private
from metaclaw.agents.ledger import Ledger, Wiring
from metaclaw.agents.program import AgentProgram, Command, Connection, Machine, Plan
from metaclaw.agents.wiring import Change
from metaclaw.errors import ConfigError, WiringError
from metaclaw.gateway.access import new_token
from metaclaw.http.auth import digest
from metaclaw.identity import DEFAULT_AGENT, agent_id
from metaclaw.journal.access_store import AccessStore, Limits
from metaclaw.processes.instance import running_instance, url_of

if TYPE_CHECKING:
    from metaclaw.config import Settings

_CONTEXT_TOKENS = 128_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Everything that connecting would do. ``old_plugins`` are copies of ours that another release made."""

    program: AgentProgram
    connection: Connection
    plan: Plan
    change: Change
    earlier: Wiring | None
    makes_token: bool
    old_plugins: tuple[Path, ...]

    @property
    def is_wired(self) -> bool:
        """Whether the program asks us as it would then."""
        return self.change.is_empty and not self.makes_token and not self.plan.commands

    @property
    def is_done(self) -> bool:
        """Whether all of it is so already."""
        return self.is_wired and not self.old_plugins


def this_machine() -> Machine:
    import os

    return Machine(home=Path.home(), env=dict(os.environ), platform=sys.platform)


def gateway_url(settings: Settings) -> str:
    """Where programs on this machine reach the gateway. Raises ``ConfigError`` when nobody can know."""
    instance = running_instance(settings.home)
    if instance is not None and instance.url:
        return instance.url
    if settings.proxy.port == 0:
        raise ConfigError("proxy.port is 0, so it is another one at every start: `metaclaw config proxy.port 30000`")
    return url_of(settings.proxy.host, settings.proxy.port)


def propose(
    program: AgentProgram,
    settings: Settings,
    ledger: Ledger,
    *,
    agent: str | None,
    with_plugin: bool = True,
    with_memory: bool = False,
) -> Proposal:
    """What connecting would change. Raises ``WiringError``; changes nothing."""
    machine = this_machine()
    if program.find(machine) is None:
        raise WiringError(
            f"{program.title} is not on this machine: there is neither its program nor its folder. Install it, run "
            "it once, then connect it"
        )
    bound = agent_id(agent) if agent else None if program.serves_many else DEFAULT_AGENT
    earlier = ledger.read(program.name)
    token = _known_token(earlier, bound, settings)
    connection = Connection(
        url=gateway_url(settings),
        token=token or new_token(),
        agent=bound,
        context_tokens=settings.max_context_tokens or _CONTEXT_TOKENS,
        plugin=ledger.folder(program.name) / "plugin" if with_plugin else None,
        memory_plugin=ledger.folder(program.name) / "memory_plugin" if with_memory else None,
    )
    plan = program.plan(connection, machine)
    change = wiring.connecting(program.name, plan, earlier, ledger)
    copies = (place for place in (connection.plugin, connection.memory_plugin) if place is not None)
    return Proposal(
        program=program,
        connection=connection,
        plan=plan,
        change=change,
        earlier=earlier,
        makes_token=token is None,
        old_plugins=tuple(place for place in copies if place.is_dir() and _differs(program.name, place)),
    )


def carry_out(proposal: Proposal, settings: Settings, ledger: Ledger) -> None:
    """Make the token, write the record, then the files, then run the program's commands."""
    name, connection = proposal.program.name, proposal.connection
    if proposal.makes_token:
        _make_token(name, connection, settings)
    for place in (connection.plugin, connection.memory_plugin):
        if place is not None:
            _copy_plugin(name, place)
    if proposal.is_wired:
        return
    wiring.connect(proposal.change, connection, proposal.plan, time.time(), ledger)
    for command in proposal.plan.commands:
        commands.run(command, this_machine())


def take_back(record: Wiring, change: Change, settings: Settings, ledger: Ledger) -> list[str]:
    """Undo a connection: commands, files, token. Returns what could not be undone."""
    remarks: list[str] = []
    for stored in record.undo:
        try:
            commands.run(Command(argv=stored.argv, why=stored.why, env={}), this_machine())
        except WiringError as error:
            remarks.append(str(error))
    wiring.disconnect(change, record, ledger)
    _revoke(_token_name(record.program), settings)
    return remarks


def _known_token(earlier: Wiring | None, agent: str | None, settings: Settings) -> str | None:
    """The token of an earlier connection, if it still lets the same agent in."""
    if earlier is None or earlier.agent != agent:
        return None
    with _store(settings) as store:
        return earlier.token if digest(earlier.token) in store.in_use() else None


def _make_token(program: str, connection: Connection, settings: Settings) -> None:
    _revoke(_token_name(program), settings)
    bound, limits = connection.agent, Limits()
    with _store(settings) as store:
        store.create(
            _token_name(program), digest=digest(connection.token), agent=bound, limits=limits, now=time.time()
        )  # fmt: skip


def _revoke(name: str, settings: Settings) -> None:
    with _store(settings) as store:
        if any(token.name == name for token in store.in_use().values()):
            store.revoke(name, time.time())


def _token_name(program: str) -> str:
    return f"connect-{program}"


@contextmanager
def _store(settings: Settings) -> Generator[AccessStore]:
    store = AccessStore.open(settings.access_db)
    try:
        yield store
    finally:
        store.close()


def _copy_plugin(program: str, place: Path) -> None:
    """The plugin of a program that has one, out of the package, so that it outlives an environment that is removed."""
    for name, content in _plugin_files(program, place).items():
        write_private(place / name, content)


def _differs(program: str, place: Path) -> bool:
    """Whether the copy at ``place`` is not what this release would put there."""
    wanted = _plugin_files(program, place)
    return any(not (place / name).is_file() or (place / name).read_bytes() != wanted[name] for name in wanted)


def _plugin_files(program: str, place: Path) -> dict[str, bytes]:
    source = files("metaclaw.agents") / f"{program}_{place.name}"
    return {entry.name: entry.read_bytes() for entry in source.iterdir() if entry.is_file()} if source.is_dir() else {}
