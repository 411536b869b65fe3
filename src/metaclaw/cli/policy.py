"""``metaclaw policy list|show|diff|promote|rollback|pin|unpin|export``: the versions of an agent's policy.

What is decided is written by the learner alone: asked of it by a row in requests.db while it runs, else done here under
its lock.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.config import Settings
    from metaclaw.journal.policy_reader import PolicyTold, VersionTold

app = typer.Typer(help="Versions of an agent's policy: what serves, why, and deciding otherwise.", no_args_is_help=True)

Agent = Annotated[str, typer.Option(help="Whose policy.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Number = Annotated[int, typer.Argument(min=0, help="A version; 0 is the base model.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for a learner that runs.")]

_MAIN = "main"
_POLL_S = 0.2


@app.command("list")
def list_(
    agent: Annotated[str | None, typer.Option(help="Of this agent alone.")] = None, as_json: AsJson = False
) -> None:
    """The versions of each agent, oldest first, and what serves."""
    from metaclaw.config_file import load_settings
    from metaclaw.identity import agent_id
    from metaclaw.journal.policy_reader import read_policies

    policies = read_policies(load_settings().learning_db, now=time.time(), agent=agent and agent_id(agent))
    if as_json:
        typer.echo(json.dumps([asdict(policy) for policy in policies]))
        return
    if not policies:
        whose = "no agent has a" if agent is None else f"agent {agent_id(agent)!r} has no"
        typer.echo(f"{whose} policy of its own yet: the first update makes one; see `metaclaw status`")
    for policy in policies:
        for one in policy.versions:
            typer.echo(f"{policy.agent}@{one.version}\t{_state(one)}\t{_rewards(one)}")
        for hold in policy.holds:
            typer.echo(f"{policy.agent}\tnot updated ({_until(hold)}): {hold['reason']}")


@app.command("show")
def show(
    version: Annotated[int | None, typer.Argument(min=0, help="A version; default the one that serves.")] = None,
    agent: Agent = _MAIN,
    as_json: AsJson = False,
) -> None:
    """One version: where it comes from, what the gate measured, how it does; and what was refused lately."""
    from metaclaw.config_file import load_settings

    policy = _policy(load_settings(), agent)
    one = _version(policy, policy.serving if version is None else version)
    told = {
        **asdict(one),
        "agent": policy.agent,
        "holds": policy.holds,
        "refused": policy.refused,
        "history": policy.history,
    }
    if as_json:
        typer.echo(json.dumps(told))
        return
    typer.echo(f"{policy.agent}@{one.version}: {_state(one)}; {_rewards(one)}")
    if one.parent is not None:
        typer.echo(f"made from version {one.parent} at {_at(one.created_at)}; weights {one.sampler_path}")
    _echo_metrics(one.metrics)
    for hold in policy.holds:
        typer.echo(f"not updated ({_until(hold)}): {hold['reason']}")
    for change in policy.history[:5]:
        typer.echo(f"{_at(change['since'])}: version {change['version']} serves: {change['why']}")
    for update in policy.refused[:5]:
        typer.echo(f"{_at(update['finished_at'])}: update {update['id']} was refused: {update['reason']}")


@app.command("diff")
def diff(
    one: Number,
    other: Number,
    agent: Agent = _MAIN,
    answers: Annotated[int, typer.Option(min=0, help="Have both answer so many held-out prompts; 0 asks nobody.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Two versions beside each other: rewards, what the gate measured, and answers to held-out prompts."""
    from metaclaw.cli.policy_answers import answers_of
    from metaclaw.config_file import load_settings

    settings = load_settings()
    policy = _policy(settings, agent)
    versions = [_version(policy, one), _version(policy, other)]
    told: dict[str, Any] = {"agent": policy.agent, "versions": [asdict(version) for version in versions]}
    told["answers"] = []
    if answers:
        paths = [version.sampler_path for version in versions]
        told["answers"] = answers_of(settings, policy.agent, paths, answers)
    if as_json:
        typer.echo(json.dumps(told))
        return
    for version in versions:
        typer.echo(f"{policy.agent}@{version.version}: {_state(version)}; {_rewards(version)}")
    for key in sorted({*versions[0].metrics, *versions[1].metrics}):
        values = [version.metrics.get(key) for version in versions]
        if any(isinstance(value, int | float) for value in values):
            typer.echo(f"  {key}\t{_number(values[0])}\t{_number(values[1])}")
    if answers and not told["answers"]:
        typer.echo(f"\n{policy.agent} has no held-out prompts that could be answered (rl.gate.held_out_share)")
    for pair in told["answers"]:
        first, second = pair["answers"]
        typer.echo(f"\n> {pair['prompt']}\n@{one}: {first}\n@{other}: {second}")


@app.command("promote")
def promote(version: Number, agent: Agent = _MAIN, wait: Wait = 10.0, as_json: AsJson = False) -> None:
    """Let a version serve that does not, older or newer: new sessions get it. A refused one has no weights any more."""
    _decide("policy_promote", agent, str(version), wait, as_json)


@app.command("rollback")
def rollback(
    agent: Agent = _MAIN,
    to: Annotated[int | None, typer.Option(min=0, help="A version; default the parent of what serves.")] = None,
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Go back to the version before, or to an older one; 0 is the base model."""
    _decide("policy_rollback", agent, "" if to is None else str(to), wait, as_json)


@app.command("pin")
def pin(
    agent: Agent = _MAIN,
    why: Annotated[str, typer.Option(help="What to remember as the reason.")] = "",
    wait: Wait = 10.0,
    as_json: AsJson = False,
) -> None:
    """Keep what serves: no further updates, no canary. The agent goes on being judged."""
    _decide("policy_pin", agent, why, wait, as_json)


@app.command("unpin")
def unpin(agent: Agent = _MAIN, wait: Wait = 10.0, as_json: AsJson = False) -> None:
    """Updates again; this also ends the rest after a version was taken back."""
    _decide("policy_unpin", agent, "", wait, as_json)


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(help="Where to write the adapter; must not exist.")],
    version: Annotated[int | None, typer.Option(min=1, help="A version; default the one that serves.")] = None,
    agent: Agent = _MAIN,
    as_json: AsJson = False,
) -> None:
    """Download a version from the training server as a PEFT adapter, to use with any program that reads those."""
    from metaclaw.cli.policy_answers import download_adapter
    from metaclaw.config_file import load_settings
    from metaclaw.errors import ConflictError

    settings = load_settings()
    policy = _policy(settings, agent)
    one = _version(policy, policy.serving if version is None else version)
    if one.sampler_path is None:
        raise ConflictError(f"{policy.agent} is served by the base model: there is no adapter to export")
    if not one.has_weights:
        raise ConflictError(f"the weights of version {one.version} of {policy.agent!r} were deleted")
    files = download_adapter(settings, one.sampler_path, folder)
    told = {"agent": policy.agent, "version": one.version, "folder": str(folder), "files": files}
    typer.echo(json.dumps(told) if as_json else f"{policy.agent}@{one.version} is in {folder}: {', '.join(files)}")


def _decide(kind: str, agent: str, subject: str, wait_s: float, as_json: bool) -> None:
    from metaclaw.config_file import load_settings
    from metaclaw.errors import ConflictError
    from metaclaw.identity import agent_id
    from metaclaw.learner.deciding import NOT_DONE

    settings, agent = load_settings(), agent_id(agent)
    outcome = _here(settings, kind, agent, subject)
    if outcome is None:
        outcome = _asked(settings, kind, agent, subject, wait_s)
    if outcome is not None and outcome.startswith(NOT_DONE):
        raise ConflictError(outcome.removeprefix(NOT_DONE))
    told = {"agent": agent, "done": outcome is not None, "outcome": outcome or "asked; the learner does it in a moment"}
    typer.echo(json.dumps(told) if as_json else told["outcome"])


def _here(settings: Settings, kind: str, agent: str, subject: str) -> str | None:
    """Do it where no learner runs; ``None`` when one does."""
    from metaclaw.journal.learning import LearningJournal
    from metaclaw.journal.policy_holds import PolicyHolds
    from metaclaw.learner.decisions import PolicyDecisions
    from metaclaw.locks import LockedError, exclusive_lock

    path = settings.learning_db
    try:
        with exclusive_lock(path.with_suffix(".lock"), wait=False), LearningJournal.open(path) as journal:
            holds = PolicyHolds.open(path)
            try:
                return PolicyDecisions(journal, holds).carry_out(kind, agent, subject)
            finally:
                holds.close()
    except LockedError:
        return None


def _asked(settings: Settings, kind: str, agent: str, subject: str, wait_s: float) -> str | None:
    from contextlib import closing

    from metaclaw.journal.requests import RequestStore

    with closing(RequestStore.open(settings.requests_db)) as store:
        number = store.ask(kind, agent=agent, subject=subject, now=time.time())
        until = time.monotonic() + wait_s
        while (request := store.request(number)) and request.outcome is None and time.monotonic() < until:
            time.sleep(_POLL_S)
    return request.outcome if request else None


def _policy(settings: Settings, agent: str) -> PolicyTold:
    from metaclaw.errors import NotFoundError
    from metaclaw.identity import agent_id
    from metaclaw.journal.policy_reader import read_policies

    found = read_policies(settings.learning_db, now=time.time(), agent=agent_id(agent))
    if not found:
        raise NotFoundError(f"no update of agent {agent!r} was ever tried; `metaclaw policy list` has all")
    return found[0]


def _version(policy: PolicyTold, number: int) -> VersionTold:
    from metaclaw.errors import NotFoundError

    found = next((one for one in policy.versions if one.version == number), None)
    if found is None:
        raise NotFoundError(f"agent {policy.agent!r} has no version {number}; `metaclaw policy list` has all")
    return found


def _state(one: VersionTold) -> str:
    words = ["base model" if one.parent is None else f"from {one.parent}"]
    words += ["serves"] if one.is_serving else []
    words += [f"tried on {one.canary_share:.0%} of new sessions"] if one.canary_share else []
    words += [] if one.has_weights else ["weights deleted"]
    return ", ".join(words)


def _rewards(one: VersionTold) -> str:
    if one.mean_reward is None:
        return "no rewards yet"
    return f"mean reward {one.mean_reward:+.2f} over {counted(one.num_rewards, 'exchange')}"


def _echo_metrics(metrics: dict[str, Any]) -> None:
    """All of them but the trainer's own and the times; docs/updates.md says what each means."""
    for key, value in sorted(metrics.items()):
        if isinstance(value, str | int | float) and not key.startswith(("before/", "step/")):
            typer.echo(f"  {key}\t{value if isinstance(value, str) else _number(value)}")
    for rule, number in sorted(metrics.get("excluded", {}).items()):
        typer.echo(f"  left out: {rule}\t{number}")


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-"


def _at(seconds: float | None) -> str:
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _until(hold: dict[str, Any]) -> str:
    return "pinned" if hold["until"] is None else f"until {_at(hold['until'])}"
