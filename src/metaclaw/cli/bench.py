"""``metaclaw bench``: days with a user who has preferences, before and after learning."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metaclaw.bench.days import Dataset, Day
    from metaclaw.bench.results import PlayedDay, Run
    from metaclaw.bench.running import BrokenOff
    from metaclaw.config import Settings

app = typer.Typer(help="Does it help? Days of work with graded answers, and runs compared.", no_args_is_help=True)
_Dataset = Annotated[Path, typer.Argument(help="all_tests.json, or the folder that it lies in.")]
_SCORES = (("accuracy", "accuracy"), ("completion", "work done"), ("choice", "questions"))


@app.command("check")
def check(dataset: _Dataset) -> None:
    """Read a dataset and say what is in it; exit code 2 with every mistake when something is wrong."""
    from metaclaw.bench.days import read_dataset

    for day in read_dataset(dataset).days:
        files = sum(one.type == "file_check" for one in day.rounds)
        work = f"{counted(files, 'piece')} of work, {counted(len(day.rounds) - files, 'question')}"
        typer.echo(f"{day.id}\t{work}\t{day.desc}".rstrip())


@app.command("run")
def run(
    dataset: _Dataset,
    out: Annotated[Path, typer.Option(help="Folder of the results. A run that broke off goes on there.")],
    agent: Annotated[str, typer.Option(help="As which agent: one of its own, with nothing learned.")] = "bench",
    model: Annotated[str, typer.Option(help="The model to ask for.")] = "metaclaw",
    days: Annotated[str | None, typer.Option(help="Which days by number, as 1-20 or 3; default all.")] = None,
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Say nothing of the answers and give no reward: a look, no lesson.")
    ] = False,
    train_every: Annotated[int, typer.Option(min=0, help="Ask for an update after so many days; 0 never.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Days at a time; more than one only with --frozen.")] = 1,
    max_turns: Annotated[int, typer.Option(min=1, help="Answers of the model to one round.")] = 20,
    patience_s: Annotated[float, typer.Option(min=0, help="Seconds to wait for the learner between days.")] = 600.0,
) -> None:
    """Have the days through the running gateway, tools in a sandbox; exit code 1 if one broke off."""
    import asyncio
    import signal

    from metaclaw.bench.days import read_dataset
    from metaclaw.bench.results import Run, alone_in, begin_run, read_days
    from metaclaw.config_file import load_settings
    from metaclaw.errors import ConfigError
    from metaclaw.identity import agent_id

    if concurrency > 1 and not frozen:
        raise ConfigError("days that are learned from follow one another: --concurrency needs --frozen")
    if frozen and train_every:
        raise ConfigError("--frozen learns nothing: leave --train-every out")
    read = read_dataset(dataset)
    settings = load_settings()
    if train_every and not settings.trains:
        raise ConfigError("mode 'skills_only' trains nothing: `metaclaw config mode auto`, or rl, and start again")
    asked, agent = _chosen(read.days, days), agent_id(agent)
    how = Run(
        dataset=str(read.path.resolve()), digest=read.digest, agent=agent, model=model, is_frozen=frozen,
        max_turns=max_turns,
    )  # fmt: skip
    between = _Between(train_every=train_every, patience_s=patience_s)
    # As Ctrl-C does: what is in hand is ended, and no folder of a day is left in the temporary files.
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    with alone_in(out):
        begin_run(out, how)
        broken = asyncio.run(_play(settings, read, asked, out.resolve(), how, between=between, concurrency=concurrency))
    for one in broken:
        typer.echo(f"{one.day} broke off: {one.why}; the same command goes on with it", err=True)
    if played := read_days(out):
        _say_summary(out, played)
    if broken:
        raise typer.Exit(1)


@app.command("report")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of results; the others are compared with the first.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each folder, in a list.")] = False,
) -> None:
    """What runs came to, with intervals, and what the others differ by from the first, round by round."""
    from metaclaw.bench.report import difference, summary_of
    from metaclaw.bench.results import read_days, read_run

    told = list[dict[str, Any]]()
    found = [(folder, read_run(folder), read_days(folder)) for folder in runs]
    for folder, of, played in found:
        one: dict[str, Any] = {"folder": str(folder), "run": of.model_dump(), "summary": summary_of(played)}
        if folder != runs[0]:
            one["difference"] = difference(found[0][2], played)
        told.append(one)
    if as_json:
        typer.echo(json.dumps(told))
        return
    for (folder, _, played), one in zip(found, told, strict=True):
        _say_summary(folder, played)
        if "difference" in one:
            typer.echo(f"  against {runs[0]}, {counted(one['difference']['rounds'], 'round')} in both:")
            _say_scores(one["difference"], sign="+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Between:
    """What is to be done between days."""

    train_every: int
    patience_s: float


async def _play(
    settings: Settings,
    dataset: Dataset,
    days: Sequence[Day],
    out: Path,
    how: Run,
    *,
    between: _Between,
    concurrency: int,
) -> list[BrokenOff]:
    import secrets

    from metaclaw.bench.nights import Night
    from metaclaw.bench.playing import Player
    from metaclaw.bench.running import play_days
    from metaclaw.errors import ConfigError
    from metaclaw.processes.confinement import choose_confinement
    from metaclaw.processes.instance import running_instance
    from metaclaw.processes.sandbox import Sandbox
    from metaclaw.rollout.gateway_client import GatewayClient
    from metaclaw.upstreams.session import new_session

    instance = running_instance(settings.home)
    if instance is None or not instance.url:
        raise ConfigError("no gateway runs on this home: `metaclaw start` starts it")
    # Results too: what an earlier run answered rightly is the solution.
    hidden = (settings.home, *dataset.hidden, out)
    sandbox = Sandbox(confinement=choose_confinement(), hidden=hidden)
    async with new_session() as session:
        token = settings.proxy.api_key.get_secret_value()
        client = GatewayClient(session, url=instance.url, token=token, model=how.model)
        player = Player(
            model=client, sandbox=sandbox, dataset=dataset, agent=how.agent, max_turns=how.max_turns,
            is_frozen=how.is_frozen,
        )  # fmt: skip
        night = None if how.is_frozen else Night(
            model=client, learning_db=settings.learning_db, requests_db=settings.requests_db, agent=how.agent,
            remembers=settings.memory.enabled, train_every=between.train_every, patience_s=between.patience_s,
            say=typer.echo,
        )  # fmt: skip
        return await play_days(
            player, days, out, night=night, concurrency=concurrency, new_id=lambda: secrets.token_hex(8), done=_say_day
        )


def _chosen(days: Sequence[Day], given: str | None) -> Sequence[Day]:
    """The days that ``given`` names, in their order."""
    from metaclaw.errors import ConfigError

    if given is None:
        return days
    first, dash, last = given.partition("-")
    try:
        start, end = int(first), int(last) if dash else int(first)
    except ValueError:
        raise ConfigError(f"--days is a number or two with a dash between, as 1-20, not {given!r}") from None
    if not 1 <= start <= end <= len(days):
        raise ConfigError(f"--days {given}: the dataset has days 1 to {len(days)}")
    return days[start - 1 : end]


def _say_day(played: PlayedDay) -> None:
    from metaclaw.bench.report import summary_of

    summary = summary_of({played.day: played})
    scores = [f"{words} {summary[name]['mean']:.2f}" for name, words in _SCORES[1:] if summary[name]]
    rounds = counted(summary["rounds"], "round")
    typer.echo(f"{played.day}\t{rounds}\t{', '.join(scores) or 'nothing could be graded'}")


def _say_summary(folder: Path, played: Mapping[str, PlayedDay]) -> None:
    from metaclaw.bench.report import summary_of

    told = summary_of(played)
    days, rounds = counted(told["days"], "day"), counted(told["rounds"], "round")
    typer.echo(
        f"{folder}: {days}, {rounds}, {told['turns']} turns, {told['tool_calls']} calls, {told['tokens']} tokens"
    )
    _say_scores(told)
    if told["by_choosing_all"] is not None:
        typer.echo(f"  {'naming every option':<20} {told['by_choosing_all']:.3f}  and doing nothing else")
    if len(told["by_day"]) > 1:
        typer.echo(f"  {'day by day':<20} {' '.join(f'{mean:.2f}' for mean in told['by_day'].values())}")
    apart = [("passed_before_any_work", "passed before any work"), ("not_gradable", "could not be graded")]
    for name, words in apart:
        if told[name]:
            typer.echo(f"  {counted(told[name], 'round')} {words}: not counted")
    if told["cut"]:
        typer.echo(f"  {counted(told['cut'], 'round')} ended by --max-turns")


def _say_scores(told: Mapping[str, Any], *, sign: str = "") -> None:
    for name, words in _SCORES:
        if (one := told[name]) is not None:
            between = one["interval"]
            interval = f"  [{between[0]:{sign}.3f}, {between[1]:{sign}.3f}]" if between else "  (too few days)"
            typer.echo(f"  {words:<20} {one['mean']:{sign}.3f}{interval}")
