"""``metaclaw skills``: what the model can be told, looked at, written, brought and taken elsewhere.

What was learned about a skill (why, trial, adopt, retire, rollback) is in commands of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.journal.skill_records import Utility
    from metaclaw.skills.catalogue import Entry
    from metaclaw.skills.history import Version
    from metaclaw.skills.writer import SkillWriter

app = typer.Typer(help="Skills: what the model is told where it fits.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Agent = Annotated[str | None, typer.Option(help="This agent; without it, everybody.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


@app.command("list")
def list_skills(
    agent: Annotated[str | None, typer.Option(help="What this agent is served; without it, all there are.")] = None,
    as_json: AsJson = False,
) -> None:
    """The skills there are: starter ones, everybody's, the agents' own; the broken and the retired too."""
    from metaclaw.skills.catalogue import seen_by
    from metaclaw.skills.layout import SHARED

    entries = _entries()
    utilities: dict[str, Utility] = {}
    if agent is not None:
        broken = [one.error for one in entries if one.error and one.owner in (_agent(agent), SHARED)]
        for error in broken:
            typer.echo(f"not served: {error}", err=True)
        entries = seen_by(entries, _agent(agent))
        utilities = _utilities(_agent(agent))
    if as_json:
        typer.echo(json.dumps([{**_shown(entry), "utility": _shown_utility(utilities, entry)} for entry in entries]))
        return
    for entry in entries:
        state = f"BROKEN {entry.error}" if entry.error else entry.description
        retired = f" (retired for {', '.join(entry.retired_for)})" if entry.retired_for else ""
        used = f"\trecalled {counted(utilities[entry.name].num_recalled, 'time')}" if entry.name in utilities else ""
        typer.echo(f"{entry.owner}\t{entry.name}{retired}\t{state}{used}")


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="Its name.")], agent: Agent = None, as_json: AsJson = False) -> None:
    """One skill as it is written, with its files and its versions."""
    from metaclaw.skills.catalogue import one_named
    from metaclaw.skills.layout import STARTER
    from metaclaw.skills.skill import FILE_NAME, read_text

    entry = one_named(_entries(), name, agent and _agent(agent))
    text = read_text(entry.path)
    versions = [] if entry.owner == STARTER else _writer().history.log(entry.owner, name)
    beside = [path.relative_to(entry.path.parent) for path in sorted(entry.path.parent.rglob("*")) if path.is_file()]
    files = [path.as_posix() for path in beside if path.as_posix() != FILE_NAME]
    origins = _forgotten_origins(entry.owner, name)
    if as_json:
        shown = {**_shown(entry), "text": text, "files": files, "versions": [_logged(one) for one in versions]}
        shown["forgotten_origins"] = origins
        typer.echo(json.dumps(shown))
        return
    typer.echo(text.rstrip())
    facts = [str(entry.path), *(f"with {file}" for file in files), *(_line(one) for one in versions), *entry.notes]
    for fact in [*facts, *origins, *([entry.error] if entry.error else [])]:
        typer.echo(f"# {fact}", err=True)


@app.command("add")
def add(
    file: Annotated[Path | None, typer.Argument(help="A SKILL.md; '-' or nothing reads standard input.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name; what is read is then the body alone.")] = None,
    description: Annotated[str, typer.Option(help="When it fits; with --name.")] = "",
    body: Annotated[str | None, typer.Option(help="What to do; with --name, instead of a file.")] = None,
    category: Annotated[str, typer.Option(help="What it is about; with --name.")] = "general",
    agent: Agent = None,
    why: Annotated[str, typer.Option(help="A remark for the log.")] = "",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a skill. It counts within a second."""
    from metaclaw.errors import ConfigError
    from metaclaw.skills.skill import Skill, parse_text, read_text, render_skill
    from metaclaw.skills.writer import ANYTHING

    if name is None and (description or body is not None):
        raise ConfigError("--description and --body belong to --name")
    if file is not None and body is not None:
        raise ConfigError("give the body as a file or as --body, not both")
    where = "standard input" if file is None or str(file) == "-" else str(file)
    text = body if body is not None else sys.stdin.read() if where == "standard input" else read_text(Path(where))
    if name is not None:
        text = render_skill(Skill(name=name, description=description, body=text, category=category))
    skill = parse_text(text, where)
    _warn(skill.notes)
    version = _writer().write(_owner(agent), text, by="human", why=why, replaces=ANYTHING if force else None)
    _say_written(version, _owner(agent), skill.name, as_json)


@app.command("share")
def share(
    name: Annotated[str, typer.Argument(help="Its name.")],
    agent: Annotated[str, typer.Option(help="Whose skill it is.")],
    as_json: AsJson = False,
) -> None:
    """Give everybody a copy of an agent's own skill, with its files. The agent keeps its own."""
    from metaclaw.config_file import load_settings
    from metaclaw.skills.owners import share_skill

    settings = load_settings()
    folder = share_skill(settings.skills_dir, name, _agent(agent), settings.own_skills_dirs)
    told = {"name": name, "agent": _agent(agent), "folder": str(folder)}
    typer.echo(json.dumps(told) if as_json else f"{name} of {told['agent']} is everybody's now: {folder}")


@app.command("edit")
def edit(name: Annotated[str, typer.Argument(help="Its name.")], agent: Agent = None, as_json: AsJson = False) -> None:
    """Open a copy in $VISUAL or $EDITOR, check it, write it. A starter skill becomes one of everybody's, above it."""
    import subprocess
    import tempfile

    from metaclaw.errors import ConfigError, SkillError
    from metaclaw.skills.catalogue import one_named
    from metaclaw.skills.layout import SHARED, STARTER
    from metaclaw.skills.skill import FILE_NAME, parse_skill, read_text

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise ConfigError("set EDITOR to the program that you edit with")
    entry = one_named(_entries(), name, agent and _agent(agent))
    owner = _agent(agent) if agent else SHARED if entry.owner == STARTER else entry.owner
    writer = _writer()
    there = writer.current(owner, name)
    folder = Path(tempfile.mkdtemp(prefix="metaclaw-")) / name
    folder.mkdir()
    copy = folder / FILE_NAME
    before = read_text(entry.path) if there is None else there
    copy.write_text(before, encoding="utf-8")
    try:
        subprocess.run([*_words(editor), str(copy)], check=True)
        text = read_text(copy)
        _warn(parse_skill(text, copy).notes)
        version = writer.write(owner, text, by="human", replaces=there) if text != before else None
    except (SkillError, OSError, subprocess.CalledProcessError) as error:
        raise SkillError(f"{error}; nothing was written, and your text is still in {copy}") from error
    copy.unlink()
    folder.rmdir()
    folder.parent.rmdir()
    _say_written(version, owner, name, as_json)


@app.command("export")
def export(
    names: Annotated[list[str] | None, typer.Argument(help="Only these.")] = None,
    to: Annotated[Path | None, typer.Option(help="The folder; each skill becomes a folder in it.")] = None,
    agent: Annotated[str | None, typer.Option(help="What this agent is served; without it, what everybody is.")] = None,
    openclaw: Annotated[bool, typer.Option("--openclaw", help="As OpenClaw takes them; into its folder.")] = False,
    starter: Annotated[bool, typer.Option("--starter", help="The starter skills too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are not ours too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy skills to where other programs read them. What is not ours there is left alone; exit code 1 if so."""
    from metaclaw.errors import ConfigError, SkillError
    from metaclaw.skills.catalogue import seen_by
    from metaclaw.skills.exporting import export_skills
    from metaclaw.skills.layout import SHARED, STARTER
    from metaclaw.skills.openclaw_folders import openclaw_skills

    if to is None and not openclaw:
        raise ConfigError("say where to: --to FOLDER, or --openclaw")
    agent = _agent(agent) if agent else None
    target = to or openclaw_skills(agent, env=os.environ, home=Path.home())
    entries = [one for one in seen_by(_entries(), agent or SHARED) if starter or names or one.owner != STARTER]
    missing = set(names or ()) - {one.name for one in entries}
    if missing:
        raise SkillError(f"no skill {', '.join(sorted(missing))} is served here; see `metaclaw skills list`")
    folders = [one.path.parent for one in entries if not names or one.name in names]
    exported = export_skills(folders, target, for_openclaw=openclaw, force=force)
    if as_json:
        typer.echo(json.dumps([{**asdict(one), "folder": str(one.folder)} for one in exported]))
    else:
        for one in exported:
            reason = f" (not ours: {', '.join(one.foreign)}; --force replaces it)" if one.foreign else ""
            typer.echo(f"{one.state}\t{one.folder}{reason}")
        if not exported:
            typer.echo("There is nothing to export but starter skills (--starter).", err=True)
    raise typer.Exit(1 if any(one.state == "refused" for one in exported) else 0)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A skill's folder, a folder of such folders, or a zip of either.")],
    agent: Agent = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Bring skills from elsewhere. They serve at once: read what you did not write before you do this."""
    import time

    from metaclaw.skills.importing import import_skills

    imported = import_skills(source, _owner(agent), writer=_writer(), now=time.time(), force=force)
    if as_json:
        typer.echo(json.dumps([{**asdict(one), "folder": str(one.folder)} for one in imported]))
        return
    for one in imported:
        _warn(one.notes)
        typer.echo(f"{'imported' if one.changed else 'unchanged'}\t{one.folder} ({counted(one.num_files, 'file')})")


@app.command("log")
def log(
    name: Annotated[str | None, typer.Argument(help="Only this skill.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent's skills.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Who wrote which skill when, and why, and what evolvers were asked and what was refused; the newest last."""
    from metaclaw.cli.skill_costs import evolution_line, evolutions
    from metaclaw.config_file import load_settings

    whose = agent and _agent(agent)
    entries = [(_logged(one), _line(one)) for one in _writer().history.log(whose, name)]
    if name is None:
        entries += [(one, evolution_line(one)) for one in evolutions(load_settings().learning_db, whose)]
    entries = sorted(entries, key=lambda entry: datetime.fromisoformat(entry[0]["at"]))[-limit:]
    if as_json:
        typer.echo(json.dumps([logged for logged, _ in entries]))
        return
    for _, line in entries:
        typer.echo(line)


def _entries() -> list[Entry]:
    import logging

    from metaclaw.config_file import load_settings
    from metaclaw.skills.catalogue import all_entries
    from metaclaw.skills.layout import STARTER_FOLDER
    from metaclaw.skills.library import SkillLibrary

    settings = load_settings()
    starter = STARTER_FOLDER if settings.skills.starter else None
    library = SkillLibrary(settings.skills_dir, starter=starter, own=settings.own_skills_dirs)
    logging.getLogger("metaclaw.skills").setLevel(logging.ERROR)  # the list itself shows what is broken
    library.scan()
    return all_entries(library.found(), library.retired())


def _utilities(agent: str) -> dict[str, Utility]:
    from metaclaw.config_file import load_settings
    from metaclaw.journal.skill_reader import SkillReader

    with SkillReader.open(load_settings().learning_db) as reader:
        return {one.skill: one for one in reader.utilities(agent)}


def _shown_utility(utilities: dict[str, Utility], entry: Entry) -> dict[str, Any] | None:
    return asdict(utilities[entry.name]) if entry.name in utilities else None


def _forgotten_origins(owner: str, name: str) -> list[str]:
    from metaclaw.cli.origins import forgotten_origins, remedy
    from metaclaw.config_file import load_settings

    found = [
        one
        for one in forgotten_origins(load_settings())
        if one.kind == "skill" and (one.agent, one.name) == (owner, name)
    ]
    what = "it was written for turns that held something which was forgotten since"
    return [f"{what} ({one.state}); {remedy(one)}".rstrip("; ") for one in found]


def _writer() -> SkillWriter:
    from metaclaw.config_file import load_settings
    from metaclaw.skills.writer import SkillWriter

    settings = load_settings()
    return SkillWriter(settings.skills_dir, own=settings.own_skills_dirs)


def _agent(agent: str) -> str:
    from metaclaw.identity import agent_id

    return agent_id(agent)


def _owner(agent: str | None) -> str:
    from metaclaw.skills.layout import SHARED

    return _agent(agent) if agent else SHARED


def _words(command: str) -> list[str]:
    import shlex

    return shlex.split(command)


def _shown(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "path": str(entry.path)}


def _logged(version: Version) -> dict[str, Any]:
    return version.model_dump(mode="json")


def _line(version: Version) -> str:
    restored = f" to version {version.restores}" if version.restores else ""
    what = f"{version.owner}/{version.name}\t{version.number}\t{version.action}{restored}"
    return f"{version.at:%Y-%m-%d %H:%M:%S}\t{what}\t{version.by}\t{version.why}"


def _warn(notes: Sequence[str]) -> None:
    for note in notes:
        typer.echo(f"metaclaw: {note}", err=True)


def _say_written(version: Version | None, owner: str, name: str, as_json: bool) -> None:
    if as_json:
        written = {"changed": version is not None, "owner": owner, "name": name}
        typer.echo(json.dumps({**written, **(_logged(version) if version else {})}))
    else:
        typer.echo(f"{owner}/{name}: version {version.number}" if version else f"{owner}/{name}: nothing changed")
