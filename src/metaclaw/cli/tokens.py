"""``metaclaw tokens``: who may use this machine's gateway, as which agent, and how much of it."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.journal.access_store import AccessStore, AccessToken, Usage

app = typer.Typer(
    help="Tokens of the gateway beside proxy.api_key: for other people and programs, with limits.", no_args_is_help=True
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose token it is.")],
    agent: Annotated[
        str | None,
        typer.Option(help="The one agent that it may be; without it, one called NAME: memories and skills of its own."),
    ] = None,
    any_agent: Annotated[
        bool, typer.Option("--any-agent", help="It may be any agent and sees what each remembers: for what is yours.")
    ] = False,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Requests in any 60 seconds.")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(min=1, help="Tokens of prompts and answers a UTC day.")] = None,
    usd_per_month: Annotated[float | None, typer.Option(min=0, help="US dollars a UTC month.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Requests running at once.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once. A running gateway knows it at once."""
    import time

    from metaclaw.gateway.access import new_token
    from metaclaw.http.auth import digest
    from metaclaw.journal.access_store import Limits

    bound_to = _bound_to(name, agent, is_any=any_agent)
    limits = Limits(
        requests_per_minute=requests_per_minute,
        tokens_per_day=tokens_per_day,
        usd_per_month=usd_per_month,
        max_concurrent=max_concurrent,
    )
    secret = new_token()
    with _store() as store:
        token = store.create(name, digest=digest(secret), agent=bound_to, limits=limits, now=time.time())
    if as_json:
        typer.echo(json.dumps({**_shown(token, None), "token": secret}))
    else:
        whose = f"it is agent {bound_to} alone" if bound_to else "it may be any agent"
        typer.echo(f"token of {name} ({token.id}; {whose}), shown once:", err=True)
        typer.echo(secret)


@app.command("list")
def list_tokens(as_json: AsJson = False) -> None:
    """The tokens there are, the revoked ones too, and what each has used."""
    with _store() as store:
        tokens, usage = store.all(), store.usage()
    if as_json:
        typer.echo(json.dumps([_shown(token, usage.get(token.id)) for token in tokens]))
        return
    for token in tokens:
        limits = ", ".join(f"{name} {value:,}" for name, value in asdict(token.limits).items() if value is not None)
        state = "revoked" if token.revoked_at is not None else f"agent {token.agent or 'any'}"
        typer.echo(f"{token.id}\t{token.name}\t{state}\t{limits or 'no limits'}\t{_used(usage.get(token.id))}")
    if not tokens:
        typer.echo("No tokens yet beside proxy.api_key; make one with `metaclaw tokens create NAME`.", err=True)


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="As `metaclaw tokens list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Let a token in no more. A running gateway knows it within a second; what it answers already is finished."""
    import time

    with _store() as store:
        token = store.revoke(name, time.time())
    typer.echo(json.dumps(_shown(token, None)) if as_json else f"revoked {token.name} ({token.id})")


def _bound_to(name: str, agent: str | None, *, is_any: bool) -> str | None:
    """The one agent of a new token, ``None`` for any. Raises ``InvalidRequestError``."""
    from metaclaw.errors import InvalidRequestError
    from metaclaw.identity import agent_id

    if is_any and agent is not None:
        raise InvalidRequestError("--agent and --any-agent are two different wishes: give one of them")
    if is_any or agent is not None:
        return None if agent is None else agent_id(agent)
    try:
        return agent_id(name)  # whoever it is for is told nothing that others said
    except InvalidRequestError as error:
        raise InvalidRequestError(
            f"{name[:120]!r} cannot be the name of an agent, which is whose memories a token goes by unless you say: "
            "add --agent NAME (main shares those of main), or --any-agent for what is yours"
        ) from error


@contextmanager
def _store() -> Generator[AccessStore]:
    from metaclaw.config_file import load_settings
    from metaclaw.journal.access_store import AccessStore

    store = AccessStore.open(load_settings().access_db)
    try:
        yield store
    finally:
        store.close()


def _shown(token: AccessToken, used: Usage | None) -> dict[str, Any]:
    shown = {**asdict(token), "limits": asdict(token.limits)}
    if used is not None:
        shown["used"] = {name: value for name, value in asdict(used).items() if name != "admitted"}
    return shown


def _used(used: Usage | None) -> str:
    if used is None:
        return "never used"
    return (
        f"{used.day}: {counted(used.day_requests, 'request')}, {counted(used.day_tokens, 'token')}; "
        f"{used.month}: {counted(used.month_tokens, 'token')}, {used.month_usd:.2f} USD"
    )
