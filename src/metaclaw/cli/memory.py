"""``metaclaw memory``: what is remembered, looked at, corrected, taken elsewhere, forgotten."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from metaclaw.memory.store import MemoryStore
    from metaclaw.memory.units import MemoryUnit

app = typer.Typer(help="Memory: what users said that is worth knowing later.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Agent = Annotated[str | None, typer.Option(help="Of this agent; without it, of all.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]
Until = Annotated[datetime | None, typer.Option(help="It holds until then (UTC), and is not recalled after it.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="As `metaclaw memory list` shows them.")]


@app.command("search")
def search(
    text: Annotated[str, typer.Argument(help="A question, or words.")],
    agent: Annotated[str, typer.Option(help="Whose memory.")] = "main",
    limit: Limit = 10,
    history: Annotated[bool, typer.Option("--history", help="Also what no longer holds.")] = False,
    as_json: AsJson = False,
) -> None:
    """What fits a question, best first, with its score."""
    import time

    from metaclaw.cli.meanings import meaning_of
    from metaclaw.identity import agent_id
    from metaclaw.memory.query import MemoryQuery
    from metaclaw.memory.times.asked import with_time

    query = MemoryQuery(
        text=text, agent=agent_id(agent), now=time.time(), limit=limit, with_history=history, is_everything=True
    )
    with opened_store(to_look=True) as store:
        found = store.search(with_time(query), meaning_of(text))
    if as_json:
        typer.echo(json.dumps([{**asdict(one.unit), "score": one.score, "parts": dict(one.parts)} for one in found]))
        return
    for one in found:
        typer.echo(f"{one.score:.2f}\t{_line(one.unit)}")
    if not found:
        typer.echo(f"nothing that agent {query.agent!r} remembers fits that", err=True)


@app.command("list")
def list_units(
    agent: Agent = None,
    kind: Annotated[str | None, typer.Option(help="Of this kind, such as preference.")] = None,
    user: Annotated[str | None, typer.Option(help="Of this user.")] = None,
    workspace: Annotated[str | None, typer.Option(help="Of this workspace.")] = None,
    session: Annotated[str | None, typer.Option(help="Of this session alone.")] = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    limit: Limit = 50,
    history: Annotated[bool, typer.Option("--history", help="Also what no longer holds.")] = False,
    as_json: AsJson = False,
) -> None:
    """The newest memories, or those that the options describe."""
    from metaclaw.identity import agent_id
    from metaclaw.memory.query import Description

    of = Description(kind=kind, user=user, workspace=workspace, session=session, is_oldest_first=oldest)
    with opened_store(to_look=True) as store:
        units = store.latest(agent and agent_id(agent), limit=limit, with_history=history, of=of)
    _print(units, as_json=as_json)
    if not units and not as_json:
        typer.echo("nothing is remembered" + ("" if of == Description() and not agent else " that is so"), err=True)


@app.command("show")
def show(ids: Ids, as_json: AsJson = False) -> None:
    """Memories with all that is known of them: who said them, when, in which turns."""
    with opened_store(to_look=True) as store:
        units = _known(store, ids)
    if as_json:
        typer.echo(json.dumps([asdict(unit) for unit in units]))
        return
    for unit in units:
        typer.echo(_line(unit))
        for name, value in asdict(unit).items():
            if name not in ("id", "text") and value not in (None, "", (), False):
                typer.echo(f"  {name}: {_readable(name, value)}")


@app.command("add")
def add(
    text: Annotated[str, typer.Argument(help="One statement; '-' reads it from standard input.")],
    agent: Annotated[str, typer.Option(help="Whose memory.")] = "main",
    kind: Annotated[str, typer.Option(help="Such as semantic, preference, episodic.")] = "semantic",
    subject: Annotated[str, typer.Option(help="What it is about; a later one on the same ends it.")] = "",
    user: Annotated[str | None, typer.Option(help="Only where this user asks.")] = None,
    workspace: Annotated[str | None, typer.Option(help="Only in this workspace.")] = None,
    standing: Annotated[
        bool, typer.Option("--standing", help="A wish for everything: told in each conversation, whatever is asked.")
    ] = False,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Remember something; what contradicts it and was said before becomes history."""
    import time

    from metaclaw.identity import agent_id
    from metaclaw.memory.portable import unit_from
    from metaclaw.memory.units import new_id

    now = time.time()
    scope = "user" if user else "workspace" if workspace else "agent"
    words = sys.stdin.read() if text == "-" else text
    given = {"id": new_id(), "text": words.strip(), "agent": agent_id(agent), "kind": kind, "subject": subject}
    given |= {"scope": scope, "user": user, "workspace": workspace, "source": "manual", "said_at": now}
    given |= {"true_until": _moment(until), "standing": standing}
    unit = unit_from({**given, "created_at": now})
    with opened_store() as store:
        (kept,) = store.add([unit], now=now)
    typer.echo(json.dumps({"id": kept, "is_new": kept == unit.id}) if as_json else kept)


@app.command("edit")
def edit(
    unit_id: Annotated[str, typer.Argument(metavar="ID")],
    text: Annotated[
        str | None, typer.Argument(help="What it shall say; '-' reads it from standard input; without it, as it is.")
    ] = None,
    standing: Annotated[
        bool | None,
        typer.Option("--standing/--no-standing", help="Whether each conversation is told."),
    ] = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Put another wording in the place of one, or say where and until when it holds; the earlier becomes history."""
    import time
    from dataclasses import replace

    from metaclaw.errors import InvalidRequestError
    from metaclaw.memory.standing import OWN_TRUST, is_own

    if text is None and until is None and standing is None:
        raise InvalidRequestError("say what it shall say, or --until when it holds, or whether it is --standing")
    with opened_store() as store:
        (unit,) = _known(store, [unit_id])
        words = unit.text if text is None else (sys.stdin.read() if text == "-" else text).strip()
        ends = unit.true_until if until is None else _moment(until)
        # What a tool said becomes the user's word when they word it, or say that it stands; not by a date for its end.
        is_theirs = text is not None or standing is True or is_own(unit)
        stands = (unit.standing and is_own(unit)) if standing is None else standing
        fresh = store.edit(
            replace(
                unit,
                text=words,
                true_until=ends,
                standing=stands,
                source="manual" if is_theirs else unit.source,
                trust=max(unit.trust, OWN_TRUST) if is_theirs else unit.trust,
            ),
            now=time.time(),
        )
    typer.echo(json.dumps({"id": fresh}) if as_json else fresh)


@app.command("forget")
def forget(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="These.")] = None,
    query: Annotated[str | None, typer.Option(help="What fits these words, of --agent.")] = None,
    agent: Annotated[str | None, typer.Option(help="All of this agent.")] = None,
    user: Annotated[str | None, typer.Option(help="All of this user's.")] = None,
    session: Annotated[str | None, typer.Option(help="All that was learned in this session.")] = None,
    since: Annotated[datetime | None, typer.Option(help="All that was said since (UTC).")] = None,
    before: Annotated[datetime | None, typer.Option(help="All that was said before (UTC).")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove memories for good: text, index and history. What was made of the same turns is named."""
    import time

    from metaclaw.config_file import load_settings
    from metaclaw.errors import InvalidRequestError
    from metaclaw.identity import agent_id
    from metaclaw.journal.retention import erase_stopped
    from metaclaw.memory.audit import descend_from
    from metaclaw.memory.extraction.elsewhere import discard
    from metaclaw.memory.forgetting import Whose, forget, select, tombstones
    from metaclaw.memory.query import MemoryQuery

    whose = Whose(
        agent=agent and agent_id(agent),
        user=user,
        session=session,
        said_since=_moment(since),
        said_before=_moment(before),
    )
    if not ids and query is None and whose == Whose():
        raise InvalidRequestError(
            "name what is to be forgotten: ids, --query, --agent, --user, --session, --since or --before"
        )
    with opened_store() as store:
        chosen = [unit.id for unit in _known(store, ids)] if ids else []
        if query is not None:
            asked = MemoryQuery(
                text=query,
                agent=whose.agent or "main",
                now=time.time(),
                limit=100,
                with_history=True,
                is_everything=True,
            )
            chosen += [found.unit.id for found in store.search(asked) if found.score >= _FITS]
        elif not ids:
            chosen = select(store, whose)
        units = store.get(chosen)
        if not yes and units and not as_json:
            _print(units, as_json=False)
            typer.confirm(f"Forget these {len(units)} for good?", abort=True)
        if query is None and not ids:
            discard(store, whose)  # what was told and not read yet
        done = forget(store, chosen, why="asked by the owner", now=time.time())
        gone = [one for one in tombstones(store) if one.id in done.ids]
    settings = load_settings()
    erase_stopped(settings.turns_db, done.ids)  # a running gateway takes it out of the journal by itself
    made = descend_from(gone, turns_db=settings.turns_db, learning_db=settings.learning_db)
    if as_json:
        typer.echo(json.dumps({**asdict(done), "descendants": [asdict(one) for one in made]}))
        return
    typer.echo(f"forgotten: {len(done.ids)}")
    for one in made:
        typer.echo(f"made of turns that held it: {one.kind} {one.name} of {one.agent} ({one.state}); `metaclaw audit`")
    if not done.is_clean:
        typer.echo("somebody reads the memory right now; `metaclaw memory doctor` empties its log then", err=True)


@app.command("stats")
def stats(agent: Agent = None, as_json: AsJson = False) -> None:
    """How much is remembered, by kind."""
    from metaclaw.identity import agent_id

    with opened_store(to_look=True) as store:
        counts = store.stats(agent and agent_id(agent))
    if as_json:
        typer.echo(json.dumps(counts))
        return
    for name, number in sorted(counts.items()):
        typer.echo(f"{name}\t{number}")


@app.command("export")
def export(
    file: Annotated[Path | None, typer.Argument(help="Where to; without it, standard output.")] = None,
    agent: Agent = None,
    as_json: AsJson = False,
) -> None:
    """Every memory, history included, as lines of JSON; with --json and a file, where they are and how many."""
    import os
    import time

    from metaclaw.identity import agent_id
    from metaclaw.memory.portable import export, note_copy

    with opened_store(to_look=file is None) as store:  # that there is a file is noted
        lines = export(store, agent=agent and agent_id(agent))
        if file is None:
            for line in lines:
                typer.echo(line)
        else:
            number = 0
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as target:
                for line in lines:
                    target.write(f"{line}\n")
                    number += 1
            note_copy(store, file, "export", time.time())
            if as_json:
                typer.echo(json.dumps({"file": str(file), "number": number}))


@app.command("import")
def import_units(
    file: Annotated[
        Path, typer.Argument(help="What `export` or `backup` wrote; '-' is lines of JSON on standard input.")
    ],
    agent: Annotated[str | None, typer.Option(help="Give all of them to this agent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take exported memories, or those of a backup, in. A file with one line that is none is refused as a whole."""
    from metaclaw.identity import agent_id
    from metaclaw.memory.portable import given_to, import_units

    units = _units_of(file)
    with opened_store() as store:
        done = import_units(store, units if agent is None else given_to(agent_id(agent), units))
    if as_json:
        left_out = {"secret": done.num_secret, "forgotten": done.num_forgotten}
        typer.echo(json.dumps({"read": len(units), "new": done.num_new, **left_out}))
        return
    typer.echo(f"{done.num_new} new of {len(units)}")
    if done.num_secret:
        typer.echo(f"left out: {done.num_secret} that speak of a password, a key, a card or an account", err=True)
    if done.num_forgotten:
        typer.echo(
            f"left out: {done.num_forgotten} that were forgotten here; `metaclaw memory add` says anew", err=True
        )


@app.command("backup")
def backup(
    file: Annotated[Path, typer.Argument(help="A file that does not exist yet.")], as_json: AsJson = False
) -> None:
    """Copy the store, as it is at this moment, beside a running MetaClaw."""
    import time

    from metaclaw.memory.portable import backup, note_copy

    with opened_store() as store:
        backup(store, file)
        note_copy(store, file, "backup", time.time())
    typer.echo(json.dumps({"file": str(file)}) if as_json else str(file))


@app.command("serve")
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 19823,
) -> None:
    """Keep this home's memory in a process of its own, for gateways with memory.sidecar_url, until Ctrl-C."""
    from metaclaw.config_file import load_settings
    from metaclaw.config_keyring import resolve_secrets
    from metaclaw.gateway.memory_process import serve

    typer.echo(f"the memory answers on http://{host}:{port}; gateways find it by memory.sidecar_url", err=True)
    serve(resolve_secrets(load_settings()), host, port)


@app.command("doctor")
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Make anew what follows from the memories.")] = False,
    as_json: AsJson = False,
) -> None:
    """Whether the store is whole; exit code 1 when it is not."""
    import time

    from metaclaw.cli.meanings import embed_missing, without_vector
    from metaclaw.config_file import load_settings
    from metaclaw.journal.retention import erase_stopped
    from metaclaw.memory.doctor import examine, mend
    from metaclaw.memory.forgetting import clear, forgotten_ids

    with opened_store() as store:
        complaints = [*examine(store), *without_vector(store)]
        if fix and any(complaint.is_mendable for complaint in complaints):
            mend(store)
            embed_missing(store)
            complaints = [*examine(store), *without_vector(store)]
        clear(store, time.time())  # what was forgotten while somebody read
        erase_stopped(load_settings().turns_db, forgotten_ids(store))
    if as_json:
        typer.echo(json.dumps([asdict(complaint) for complaint in complaints]))
    else:
        for complaint in complaints:
            cure = "; `metaclaw memory doctor --fix` mends it" if complaint.is_mendable else ""
            typer.echo(f"{complaint.number} {complaint.what}{cure}")
        if not complaints:
            typer.echo("all is well")
    raise typer.Exit(1 if complaints else 0)


_FITS = 0.35  # of what is forgotten by a query: it must speak of it


def _units_of(file: Path) -> list[MemoryUnit]:
    from metaclaw.errors import InvalidRequestError
    from metaclaw.memory.portable import is_copy, read_copy, read_lines

    try:
        if str(file) != "-" and is_copy(file):
            return read_copy(file)
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"cannot read {file}: {error}") from error
    return read_lines(text.splitlines())


def _moment(day: datetime | None) -> float | None:
    return None if day is None else day.replace(tzinfo=UTC).timestamp()


@contextmanager
def opened_store(*, to_look: bool = False) -> Generator[MemoryStore]:
    """The store of this home; ``to_look`` makes no file where there is none."""
    from metaclaw.config_file import load_settings
    from metaclaw.memory.store import MemoryStore

    with (MemoryStore.open_to_look if to_look else MemoryStore.open)(load_settings().memory_db) as store:
        yield store


def _known(store: MemoryStore, ids: Iterable[str]) -> list[MemoryUnit]:
    from metaclaw.errors import NotFoundError

    wanted = list(ids)
    units = {unit.id: unit for unit in store.get(wanted)}
    missing = [name for name in wanted if name not in units]
    if missing:
        raise NotFoundError(f"there is no memory {missing[0]}; `metaclaw memory list` shows them")
    return [units[name] for name in wanted]


def _print(units: Iterable[MemoryUnit], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(unit) for unit in units]))
        return
    for unit in units:
        typer.echo(_line(unit))


def _line(unit: MemoryUnit) -> str:
    ended = " (no longer)" if unit.superseded_by else ""
    whose = unit.agent if unit.scope == "agent" else f"{unit.agent}/{unit.scope} {getattr(unit, unit.scope)}"
    from metaclaw.memory.standing import stands

    kind = f"{unit.kind}, standing" if stands(unit) else unit.kind
    return f"{unit.id}\t{day_of(unit.said_at)}\t{whose}\t{kind}\t{unit.text}{ended}"


def _readable(name: str, value: Any) -> str:
    if name in ("said_at", "created_at", "true_from", "true_until"):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    return ", ".join(map(str, value)) if name == "turns" else str(value)


def day_of(moment: float) -> str:
    """The day of a moment, as lists show it."""
    return datetime.fromtimestamp(moment, UTC).date().isoformat()
