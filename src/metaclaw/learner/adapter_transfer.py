"""Adapters as files: brought from the training server, and handed over to it.

Owns these two conversations; refuses to know what the files are for. Invariant: what is brought lies whole in a folder
that did not exist before, or not at all.
"""

from __future__ import annotations

import asyncio
import shutil
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import IO

import aiohttp

from metaclaw.config import RlSettings
from metaclaw.errors import BackendError, ConflictError

_CHUNK = 1 << 20


async def fetch(session: aiohttp.ClientSession, rl: RlSettings, path: str, folder: Path) -> list[str]:
    """Write the files of ``tinker://MODEL/KIND/NAME`` to the new ``folder``; return their names.

    Raises ``ConflictError`` when the folder is there, ``BackendError`` when the training server does not give them.
    """
    if await asyncio.to_thread(folder.exists):
        raise ConflictError(f"{folder} exists already; name a folder that does not")
    model, kind, name = path.removeprefix("tinker://").split("/", 2)
    url = f"{rl.remote_url}/api/v1/training_runs/{model}/checkpoints/{kind}/{name}/archive"
    with tempfile.TemporaryFile() as packed:
        try:
            async with session.get(url, headers={"X-API-Key": rl.remote_api_key.get_secret_value()}) as answer:
                if answer.status != 200:
                    raise BackendError(f"{rl.remote_url} answered {answer.status} for {path}")
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    packed.write(chunk)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BackendError(f"{rl.remote_url} cannot be asked: {error}") from error
        return await asyncio.to_thread(_unpack, packed, folder)


def _unpack(packed: IO[bytes], folder: Path) -> list[str]:
    packed.seek(0)
    folder.mkdir(parents=True)
    try:
        with closing(tarfile.open(fileobj=packed, mode="r:gz")) as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise BackendError(f"the training server's archive cannot be unpacked: {error}") from error
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
