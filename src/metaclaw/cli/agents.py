"""``metaclaw agents``: who is served here, what there is of each, and moving it."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.cli.agent_archive import Manifest
    from metaclaw.cli.agent_places import Holdings
    from metaclaw.config import Settings
    from metaclaw.journal.policy_reader import VersionTold

app = typer.Typer(help="Agents: what there is of each, and moving it.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="AGENT", help="Its id, such as research-agent.")]
_ONE = {
    "turns": "turn", "memories": "memory", "skills": "skill", "samples": "sample", "versions": "version",
    "tokens": "token",
}  # fmt: skip
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every agent that there is anything of."""
    from metaclaw.cli.agent_places import all_holdings
    from metaclaw.config_file import load_settings

    found = all_holdings(load_settings())
    if as_json:
        typer.echo(json.dumps([_shown(one) for one in found]))
        return
    for one in found:
        typer.echo(f"{one.agent}\t{_counted(one)}")


@app.command("show")
def show(agent: Name, as_json: AsJson = False) -> None:
    """What there is of one agent, and what the settings say of it."""
    from metaclaw.cli.agent_places import skills_of
    from metaclaw.config_file import load_settings

    settings = load_settings()
    found = _known(settings, agent)
    told = {**_shown(found), "skill_names": sorted(skills_of(settings, found.agent))}
    if as_json:
        typer.echo(json.dumps(told))
        return
    for name, value in told.items():
        typer.echo(f"{name}: {json.dumps(value) if isinstance(value, dict | list) else value}")


@app.command("add")
def add(agent: Name, as_json: AsJson = False) -> None:
    """Make an agent: a folder for its skills. It need not be done: whoever asks under a valid id is served."""
    from metaclaw.cli.agent_places import holdings_of
    from metaclaw.config_file import load_settings
    from metaclaw.errors import ConflictError
    from metaclaw.identity import agent_id

    settings, name = load_settings(), agent_id(agent)
    folder = settings.skills_dir / name
    if not holdings_of(settings, name).is_empty or folder.exists():
        raise ConflictError(f"there is an agent {name!r} already")
    folder.mkdir(parents=True, mode=0o700)
    told = {"agent": name, "skills_dir": str(folder), "next": f"metaclaw tokens create {name} --agent {name}"}
    typer.echo(json.dumps(told) if as_json else f"{name}: its skills go into {folder}. A token: `{told['next']}`")


@app.command("rename")
def rename(
    agent: Name, to: Annotated[str, typer.Argument(metavar="NEW", help="Its id from now on.")], as_json: AsJson = False
) -> None:
    """Give an agent another id, with all there is of it. MetaClaw must be stopped. Cut off, it is ended at the next
    start; tell its program the new id."""
    from metaclaw.cli.agent_places import alone
    from metaclaw.cli.agent_places import rename as rename_everywhere
    from metaclaw.config_file import load_settings
    from metaclaw.identity import agent_id

    settings = load_settings()
    with alone(settings):
        found = rename_everywhere(settings, agent_id(agent), agent_id(to))
    told = {**found.counts(), "was": found.agent, "agent": agent_id(to)}
    typer.echo(json.dumps(told) if as_json else f"{found.agent} is {told['agent']} now: {_counted(found)}")


@app.command("remove")
def remove(agent: Name, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove an agent: turns, samples, versions, skills, memories, tokens and settings. MetaClaw must be stopped."""
    from metaclaw.cli.agent_places import alone
    from metaclaw.cli.agent_places import remove as remove_everywhere
    from metaclaw.config_file import load_settings
    from metaclaw.journal.policy_reader import read_policies

    settings = load_settings()
    with alone(settings):
        found = _known(settings, agent)
        policies = read_policies(settings.learning_db, now=time.time(), agent=found.agent)
        versions = [one for policy in policies for one in policy.versions]
        weights = [path for one in versions for path in (one.state_path, one.sampler_path) if path]
        if not yes:
            typer.echo(f"{found.agent}: {_counted(found)}", err=as_json)
            typer.confirm("Remove all of it for good?", abort=True, err=as_json)
        remove_everywhere(settings, found.agent, time.time())
    told = {**found.counts(), "agent": found.agent, "left_on_the_training_server": weights}
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(f"removed: {_counted(found)}")
    for path in weights:
        typer.echo(f"left on the training server: {path}")


@app.command("export")
def export(
    agent: Name,
    file: Annotated[Path, typer.Argument(help="Where to; a .tar.gz that does not exist yet.")],
    adapter: Annotated[bool, typer.Option(help="With the weights that serve, from the training server.")] = True,
    as_json: AsJson = False,
) -> None:
    """One archive of skills, memories, settings and adapter, with a manifest. No keys are in it. MetaClaw may run."""
    from metaclaw.config_file import load_settings

    settings = load_settings()
    found = _known(settings, agent)
    with tempfile.TemporaryDirectory() as scratch:
        manifest = _exported(settings, found, file, Path(scratch) if adapter else None)
    told = {"agent": found.agent, "file": str(file), "files": len(manifest.files), "left_out": manifest.left_out}
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(f"{found.agent} is in {file}: {counted(len(manifest.files), 'file')}")
    for why in manifest.left_out:
        typer.echo(f"left out: {why}", err=True)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="An archive that `metaclaw agents export` made.")],
    as_: Annotated[str | None, typer.Option("--as", metavar="NEW", help="Under this id; default its own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take an exported agent in, as one that is not here yet. MetaClaw must be stopped."""
    from metaclaw.cli.agent_archive import unpack_archive
    from metaclaw.cli.agent_places import alone, holdings_of
    from metaclaw.config_file import load_settings
    from metaclaw.errors import ConflictError
    from metaclaw.identity import agent_id

    settings = load_settings()
    with tempfile.TemporaryDirectory() as scratch, alone(settings):
        manifest = unpack_archive(file, Path(scratch))
        name = agent_id(as_ or manifest.agent)
        if not holdings_of(settings, name).is_empty:
            raise ConflictError(f"there is an agent {name!r} already: give another id with --as")
        told: dict[str, Any] = {"agent": name, "was": manifest.agent, **_imported(settings, name, Path(scratch))}
    what = f"{counted(told['skills'], 'skill')}, {counted(told['memories'], 'memory')}"
    typer.echo(json.dumps(told) if as_json else f"{name} is here: {what}")
    notes: list[str] = [] if as_json else told["notes"]
    for note in notes:
        typer.echo(note, err=True)


def _exported(settings: Settings, found: Holdings, file: Path, scratch: Path | None) -> Manifest:
    from metaclaw.cli.agent_archive import without_secrets, write_archive
    from metaclaw.cli.agent_places import skills_of
    from metaclaw.journal.policy_reader import read_policies
    from metaclaw.memory.portable import export, note_copy
    from metaclaw.memory.store import MemoryStore

    files: dict[str, bytes | Path] = {}
    left_out: list[str] = []
    for name, folder in skills_of(settings, found.agent).items():
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                files[f"skills/{name}/{path.relative_to(folder).as_posix()}"] = path
    if settings.memory_db.exists():
        with MemoryStore.open(settings.memory_db) as store:
            files["memories.jsonl"] = "".join(f"{line}\n" for line in export(store, agent=found.agent)).encode()
            note_copy(store, file, "export", time.time())
    files["settings.json"] = json.dumps(without_secrets(found.settings), default=str).encode()
    policies = read_policies(settings.learning_db, now=time.time(), agent=found.agent)
    if policies:
        policy = policies[0]
        files["policy.json"] = json.dumps(asdict(policy)).encode()
        serving = next(one for one in policy.versions if one.is_serving)
        if serving.sampler_path and scratch is None:
            left_out.append(f"the adapter of version {serving.version} (--no-adapter)")
        elif serving.sampler_path and scratch is not None:
            left_out += _with_adapter(settings, serving, scratch, files)
    return write_archive(file, found.agent, files, left_out)


def _with_adapter(settings: Settings, version: VersionTold, scratch: Path, files: dict[str, bytes | Path]) -> list[str]:
    """Its saved state, which training goes on from; where that is not given out, the weights that serve alone."""
    from metaclaw.cli.policy_answers import download_adapter
    from metaclaw.errors import BackendError

    left_out: list[str] = []
    for what, path in (("the state of its optimiser", version.state_path), ("the adapter", version.sampler_path)):
        folder = scratch / what.rpartition(" ")[2]
        try:
            names = download_adapter(settings, path or "", folder)
        except BackendError as error:
            left_out.append(f"{what}: {error}")
            continue
        files |= {f"adapter/{name}": folder / name for name in names}
        break
    return left_out


def _imported(settings: Settings, agent: str, unpacked: Path) -> dict[str, Any]:
    from metaclaw.cli.agent_archive import load_json, without_secrets
    from metaclaw.config_file import load_settings, set_values
    from metaclaw.memory.agents import moved_to
    from metaclaw.memory.portable import import_units, read_lines
    from metaclaw.memory.store import MemoryStore
    from metaclaw.skills.importing import import_skills
    from metaclaw.skills.writer import SkillWriter

    memories, skills = unpacked / "memories.jsonl", unpacked / "skills"
    units = read_lines(memories.read_text(encoding="utf-8").splitlines()) if memories.exists() else []
    group: dict[str, Any] = load_json(unpacked / "settings.json") or {}
    values = {f"agents.{agent}.{name}": value for name, value in _leaves(without_secrets(group))}
    if values:
        set_values(settings.home, values)  # checked as a whole, before anything else is written
        settings = load_settings(settings.home)
    brought = []
    if skills.is_dir():
        writer = SkillWriter(settings.skills_dir)
        brought = import_skills(skills, agent, writer=writer, now=time.time())
    number = 0
    if units:
        with MemoryStore.open(settings.memory_db) as store:
            # An agent that was removed and is brought back remembers what it did.
            number = import_units(store, moved_to(units, agent, store), with_forgotten=True).num_new
    if not brought and not units and not values:
        (settings.skills_dir / agent).mkdir(parents=True, exist_ok=True, mode=0o700)  # as `add`: it is there
    return {
        "skills": len(brought),
        "memories": number,
        "settings": sorted(values),
        "notes": _keep_adapter(settings, agent, unpacked),
    }


def _keep_adapter(settings: Settings, agent: str, unpacked: Path) -> list[str]:
    """Put its adapter where the learner looks for it; what is to be said of that."""
    import shutil

    from metaclaw.cli.agent_archive import load_json
    from metaclaw.learner.adapter_transfer import BASELINE, STATE_FILES

    if not (unpacked / "adapter").is_dir():
        return []
    kept = settings.imported_adapters / agent
    unfinished = kept.with_name(f".{agent}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(unpacked / "adapter", unfinished)
    policy: dict[str, Any] = load_json(unpacked / "policy.json") or {}
    if policy.get("baseline"):
        (unfinished / BASELINE).write_text(json.dumps(policy["baseline"]))
    unfinished.rename(kept)
    if not all((kept / name).is_file() for name in STATE_FILES):
        return [f"its adapter is in {kept} without its optimiser: it begins at the base model"]
    if not settings.is_trained(agent):
        return [f"its adapter waits in {kept} until its mode is rl or auto (agents.{agent}.mode)"]
    return [f"its adapter waits in {kept}: it serves when MetaClaw has run beside the training server for a moment"]


def _leaves(group: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in group.items():
        found += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]  # pyright: ignore
    return found


def _known(settings: Settings, agent: str) -> Holdings:
    from metaclaw.cli.agent_places import holdings_of
    from metaclaw.errors import NotFoundError
    from metaclaw.identity import agent_id

    found = holdings_of(settings, agent_id(agent))
    if found.is_empty:
        raise NotFoundError(f"there is nothing of an agent {agent!r}; `metaclaw agents list` has all")
    return found


def _shown(one: Holdings) -> dict[str, Any]:
    from metaclaw.cli.agent_archive import without_secrets

    return {**asdict(one), "settings": without_secrets(one.settings)}


def _counted(one: Holdings) -> str:
    counts = ", ".join(counted(number, _ONE[name]) for name, number in one.counts().items() if number)
    waiting = ", an adapter that waits for the training server" if one.has_waiting_adapter else ""
    return (counts or "nothing yet") + (", settings of its own" if one.settings else "") + waiting
