"""``metaclaw keys``: who may use this machine's training server, and how much of it."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from metaclaw.training.api.keys import Key, KeyTable

app = typer.Typer(
    help="Keys of the training server. Each is a tenant: it sees its own models only.", no_args_is_help=True
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    admin: Annotated[bool, typer.Option("--admin", help="It sees and may change everything.")] = False,
    max_models: Annotated[int | None, typer.Option(min=0, help="Models in training at once.")] = None,
    max_bytes: Annotated[str | None, typer.Option(help="Size of its checkpoints, such as 20GB or 500MiB.")] = None,
    max_requests: Annotated[int | None, typer.Option(min=1, help="Jobs and samples open at once.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once. A running server knows it at once."""
    import time

    from metaclaw.training.api.tenants import Quotas

    size = None if max_bytes is None else _bytes(max_bytes)
    quotas = Quotas(max_models=max_models, max_bytes=size, max_requests=max_requests)
    with _table() as table:
        secret, key = table.create(name, is_admin=admin, quotas=quotas, now=time.time())
    if as_json:
        typer.echo(json.dumps({**_shown(key), "key": secret}))
    else:
        typer.echo(f"key of {name} ({key.tenant.key_id}), shown once:", err=True)
        typer.echo(secret)


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """The keys there are, the revoked ones too."""
    with _table() as table:
        keys = table.all()
    if as_json:
        typer.echo(json.dumps([_shown(key) for key in keys]))
        return
    for key in keys:
        quotas = key.tenant.quotas
        limits = ", ".join(
            f"{value} {what}"
            for value, what in (
                (quotas.max_models, "models"),
                (quotas.max_bytes, "bytes"),
                (quotas.max_requests, "requests"),
            )
            if value is not None
        )
        state = "revoked" if key.revoked_at is not None else "admin" if key.tenant.is_admin else "in use"
        typer.echo(f"{key.tenant.key_id}\t{key.tenant.name}\t{state}\t{limits or 'no limits'}")
    if not keys:
        typer.echo("No keys yet beside the server's own; make one with `metaclaw keys create NAME`.", err=True)


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="As `metaclaw keys list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Let a key in no more. What it runs is finished; what it stored stays, for admin keys."""
    import time

    with _table() as table:
        key = table.revoke(name, time.time())
    typer.echo(json.dumps(_shown(key)) if as_json else f"revoked {key.tenant.name} ({key.tenant.key_id})")


@contextmanager
def _table() -> Generator[KeyTable]:
    from metaclaw.config_file import load_settings
    from metaclaw.training.api.database import connect
    from metaclaw.training.api.keys import KeyTable

    connection = connect(load_settings().train_server_dir / "server.db")
    try:
        yield KeyTable(connection)
    finally:
        connection.close()


def _shown(key: Key) -> dict[str, Any]:
    quotas = key.tenant.quotas
    return {
        "id": key.tenant.key_id,
        "name": key.tenant.name,
        "is_admin": key.tenant.is_admin,
        "max_models": quotas.max_models,
        "max_bytes": quotas.max_bytes,
        "max_requests": quotas.max_requests,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


def _bytes(text: str) -> int:
    number = text.upper().removesuffix("B").rstrip("KMGTI ")
    unit = text.upper().removesuffix("B")[len(number) :].strip()
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is not a size; write 500MB, 20GB or 1.5TiB", param_hint="--max-bytes"
        ) from error
