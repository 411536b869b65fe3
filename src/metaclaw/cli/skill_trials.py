"""``metaclaw skills why|trial|adopt|retire|rollback|evolve``: what was learned about skills, and decisions about them.

What the learner owns is asked of it by a row in requests.db; a command waits a little for the answer.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.plurals import counted
from metaclaw.cli.skills import AsJson, app

if TYPE_CHECKING:
    from metaclaw.config import Settings
    from metaclaw.journal.skill_reader import SkillReader
    from metaclaw.journal.skill_records import Candidate, Utility
    from metaclaw.skills.library import SkillLibrary

Name = Annotated[str, typer.Argument(help="The skill's name.")]
Agent = Annotated[str, typer.Option(help="Whose skill.")]
Everybody = Annotated[bool, typer.Option("--everybody", help="For all agents; everybody's skill.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the learner.")]

_POLL_S = 0.2
_MAIN = "main"


@app.command("why")
def why(name: Name, agent: Agent = _MAIN, as_json: AsJson = False) -> None:
    """Where a skill is from, how its trial went, and what came of recalling it."""
    from metaclaw.config_file import load_settings
    from metaclaw.errors import NotFoundError
    from metaclaw.identity import agent_id
    from metaclaw.journal.skill_reader import SkillReader

    settings, agent = load_settings(), agent_id(agent)
    served = _served(settings, agent, name)
    with SkillReader.open(settings.learning_db) as reader:
        candidates = [_told(reader, one, settings) for one in reader.candidates(agent=agent, name=name)]
        utility = next(iter(reader.utilities(agent, name)), None)
        generation = reader.generation(agent)
    if served is None and not candidates and utility is None:
        raise NotFoundError(f"nothing is known of a skill {name!r} of agent {agent!r}; `metaclaw skills list` has all")
    told = {
        "agent": agent, "name": name, "served": served, "generation": generation, "candidates": candidates,
        "utility": None if utility is None else asdict(utility), "flags": _flags(utility, settings),
    }  # fmt: skip
    typer.echo(json.dumps(told) if as_json else "\n".join(_why_lines(told, utility)))


@app.command("trial")
def trial(
    name: Annotated[str | None, typer.Argument(help="Go on with this one's trial now; without it, list all.")] = None,
    agent: Agent = _MAIN,
    wait: Wait = 60.0,
    as_json: AsJson = False,
) -> None:
    """The skills that a model wrote and how their trials stand; or go on with one of them now."""
    from metaclaw.config_file import load_settings
    from metaclaw.identity import agent_id
    from metaclaw.journal.skill_reader import SkillReader

    if name is not None:
        _ask("trial", agent, name, wait, as_json)
        return
    settings, agent = load_settings(), agent_id(agent)
    with SkillReader.open(settings.learning_db) as reader:
        told = [_told(reader, one, settings) for one in reader.candidates(agent=agent)]
    if as_json:
        typer.echo(json.dumps(told))
        return
    for one in told:
        kind = "edit" if one["is_edit"] else "new"
        typer.echo(f"{one['name']}\t{kind}\t{one['state']}\t{one['verdict'] or one['reason']}")


@app.command("adopt")
def adopt(name: Name, agent: Agent = _MAIN, wait: Wait = 10.0, as_json: AsJson = False) -> None:
    """Serve a skill that is on trial, whatever its trial says so far."""
    _ask("adopt", agent, name, wait, as_json)


@app.command("evolve")
def evolve(agent: Agent = _MAIN, wait: Wait = 300.0, as_json: AsJson = False) -> None:
    """Have skills written now from what failed lately, however little it is; they go on trial."""
    _ask("evolve", agent, "", wait, as_json)


@app.command("retire")
def retire(
    name: Name, agent: Agent = _MAIN, everybody: Everybody = False, wait: Wait = 0.0, as_json: AsJson = False
) -> None:
    """Serve a skill no more, at once; its file stays. A trial of it ends. Rollback brings it back."""
    from metaclaw.config_file import load_settings
    from metaclaw.errors import NotFoundError
    from metaclaw.identity import agent_id
    from metaclaw.skills.retired import EVERYBODY, set_retired

    settings, agent = load_settings(), EVERYBODY if everybody else agent_id(agent)
    if not _is_known(settings, name):
        raise NotFoundError(f"there is no skill {name!r} here; see `metaclaw skills list` and `metaclaw skills trial`")
    set_retired(settings.skills_dir, agent, name, retired=True)
    whom = "anybody" if everybody else agent
    _ask("retire", agent, name, wait, as_json, done=f"{name} is not served to {whom} any more")


@app.command("rollback")
def rollback(
    name: Name,
    agent: Agent = _MAIN,
    everybody: Everybody = False,
    to: Annotated[int | None, typer.Option(help="A version of `metaclaw skills log`; default the one before.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring back a skill that was retired, or else an earlier text of it. It counts within a second."""
    from metaclaw.config_file import load_settings
    from metaclaw.identity import agent_id
    from metaclaw.skills.layout import SHARED
    from metaclaw.skills.retired import EVERYBODY, set_retired
    from metaclaw.skills.writer import SkillWriter

    settings = load_settings()
    agent = EVERYBODY if everybody else agent_id(agent)
    outcome: dict[str, Any] = {"agent": agent, "name": name}
    if set_retired(settings.skills_dir, agent, name, retired=False) and to is None:
        _say({**outcome, "outcome": f"{name} is not retired any more"}, as_json)
        return
    owner = SHARED if everybody else agent
    writer = SkillWriter(settings.skills_dir, own=settings.own_skills_dirs)
    version = writer.rollback(owner, name, to=to, why="rolled back")
    if not everybody:
        _ask("retire", agent, name, 0.0, None)  # what a trial adopted is not what is served now
    text = f"{owner}/{name} is as it was in version {version.restores}"
    _say({**outcome, "version": version.number, "restores": version.restores, "outcome": text}, as_json)


def _ask(kind: str, agent: str, subject: str, wait_s: float, as_json: bool | None, *, done: str = "") -> None:
    """Ask the learner; ``done`` is what is true already. Without ``as_json`` nothing is said."""
    from metaclaw.config_file import load_settings
    from metaclaw.errors import ConflictError
    from metaclaw.identity import agent_id
    from metaclaw.journal.requests import RequestStore
    from metaclaw.learner.deciding import NOT_DONE
    from metaclaw.processes.instance import running_instance

    settings = load_settings()
    agent = agent if agent == "*" else agent_id(agent)
    store = RequestStore.open(settings.requests_db)
    try:
        number = store.ask(kind, agent=agent, subject=subject, now=time.time())
        until = time.monotonic() + (wait_s if running_instance(settings.home) else 0.0)  # nobody is there to wait for
        answered = store.request(number)
        while answered is not None and answered.outcome is None and time.monotonic() < until:
            time.sleep(_POLL_S)
            answered = store.request(number)
    finally:
        store.close()
    outcome = answered.outcome if answered else None
    if outcome is not None and outcome.startswith(NOT_DONE):
        raise ConflictError(outcome.removeprefix(NOT_DONE))
    waiting = done or "asked; the learner does it when it runs (`metaclaw start`)"
    told = {"request": number, "agent": agent, "name": subject, "done": bool(outcome or done)}
    if as_json is not None:
        _say({**told, "outcome": outcome or waiting}, as_json)


def _say(told: dict[str, Any], as_json: bool) -> None:
    typer.echo(json.dumps(told) if as_json else told["outcome"])


def _library(settings: Settings) -> SkillLibrary:
    from metaclaw.skills.layout import STARTER_FOLDER
    from metaclaw.skills.library import SkillLibrary

    starter = STARTER_FOLDER if settings.skills.starter else None
    library = SkillLibrary(settings.skills_dir, starter=starter, own=settings.own_skills_dirs)
    library.scan()
    return library


def _is_known(settings: Settings, name: str) -> bool:
    """Whether a folder is called so, whoever's and broken or not, or a model wrote such a skill."""
    from metaclaw.journal.skill_reader import SkillReader

    if any(one.folder.name == name for one in _library(settings).found()):
        return True  # whatever has become of the learner's database
    with SkillReader.open(settings.learning_db) as reader:
        return bool(reader.candidates(name=name))


def _served(settings: Settings, agent: str, name: str) -> dict[str, Any] | None:
    """The layer that serves a skill to ``agent``, and who wrote it."""
    from metaclaw.skills.layout import SHARED, STARTER

    library = _library(settings)
    if library.retired().covers(agent, name):
        return {"owner": None, "by": None, "retired": True}
    layers = {one.owner: one.skill for one in library.found() if one.skill is not None and one.skill.name == name}
    for owner in (agent, SHARED, STARTER):
        if (skill := layers.get(owner)) is not None:
            return {"owner": owner, "by": skill.metadata.get("origin", "human"), "retired": False}
    return None


def _told(reader: SkillReader, candidate: Candidate, settings: Settings) -> dict[str, Any]:
    from metaclaw.journal.skill_costs import skill_costs
    from metaclaw.skills.trial.evidence import verdict_on
    from metaclaw.skills.trial.verdicts import TrialRule

    trial = settings.skills.trial
    rule = TrialRule(error=trial.error, worthwhile=trial.worthwhile, max_observations=trial.max_comparisons)
    comparisons = reader.comparisons(candidate.id)
    verdict = verdict_on(candidate, comparisons, rule)
    told = asdict(candidate)
    del told["base"]
    return {
        **told,
        "is_edit": candidate.base is not None,
        "verdict": verdict.reason if candidate.state == "trial" else None,
        "comparisons": len(comparisons),
        "void": sum(one.void is not None for one in comparisons),
        "replays": asdict(skill_costs(settings.learning_db, candidate=candidate.id).trials),
        "mean_difference": verdict.mean,
        "evidence": min(verdict.evidence, 1e300),
    }


def _flags(utility: Utility | None, settings: Settings) -> list[str]:
    """What a person may want to look at; nothing follows from it."""
    if utility is None:
        return ["never recalled"]
    flags: list[str] = []
    days = settings.skills.trial.unused_days
    if days > 0 and time.time() - utility.last_at > days * 86_400:
        flags.append(f"not recalled for {days:g} days")
    with_it, without = utility.mean_with, utility.mean_without
    if with_it is not None and without is not None and utility.num_with >= 10 and with_it < without:
        flags.append("exchanges with it went worse than others")
    return flags


def _why_lines(told: dict[str, Any], utility: Utility | None) -> list[str]:
    from metaclaw.cli.skill_costs import trial_cost
    from metaclaw.journal.skill_costs import Spent

    served = told["served"]
    if served is None:
        lines = [f"{told['name']} is not served to {told['agent']}"]
    elif served["retired"]:
        lines = [f"{told['name']} is retired for {told['agent']}"]
    else:
        lines = [f"{told['name']} is served to {told['agent']} from {served['owner']}, written by a {served['by']}"]
    for one in told["candidates"]:
        what = "an edit" if one["is_edit"] else "new"
        lines.append(f"{what}, by {one['author']}: {one['state']}: {one['verdict'] or one['reason']}")
        if one["replays"]["num_asked"]:
            lines.append(f"  its trial took {trial_cost(Spent(**one['replays']))}")
        lines.append(f"  written for: {one['why'] or '-'}; learned from turns {', '.join(one['turns'][:5])}")
    lines.append(utility_line(utility))
    return [*lines, *(f"note: {flag}" for flag in told["flags"])]


def utility_line(utility: Utility | None) -> str:
    """How often a skill was recalled and how exchanges went with it and without it."""
    if utility is None:
        return "never recalled"
    with_it = "-" if utility.mean_with is None else f"{utility.mean_with:+.2f} ({utility.num_with} judged)"
    without = "-" if utility.mean_without is None else f"{utility.mean_without:+.2f} ({utility.num_without} judged)"
    often = counted(utility.num_recalled, "time")
    return f"recalled {often}; mean reward with it {with_it}, of the others since {without}"
