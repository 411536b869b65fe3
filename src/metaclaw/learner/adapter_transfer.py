"""Adapters as files: brought from the training server, and handed over to it.

Owns these two conversations; refuses to know what the files are for. Invariant: what is brought lies whole in a folder
that did not exist before, or not at all.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import IO

import aiohttp

from metaclaw.config import RlSettings
from metaclaw.errors import BackendError, ConflictError, InvalidRequestError

STATE_FILES = ("manifest.json", "adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors")
BASELINE = "baseline.json"  # beside them, of the agent that they were trained for
_CHUNK = 1 << 20
_KEPT_S = 86_400  # until what was made of it is saved under a name of its own
_MAX_TOLD = 2000


async def fetch(session: aiohttp.ClientSession, rl: RlSettings, path: str, folder: Path) -> list[str]:
    """Write the files of ``tinker://MODEL/KIND/NAME`` to the new ``folder``; return their names.

    Raises ``ConflictError`` when the folder is there, ``BackendError`` when the training server does not give them.
    """
    if await asyncio.to_thread(folder.exists):
        raise ConflictError(f"{folder} exists already; name a folder that does not")
    if rl.is_cloud:
        raise BackendError(f"{rl.backend} gives weights out by its own SDK alone; there they are {path}")
    model, kind, name = path.removeprefix("tinker://").split("/", 2)
    url = f"{rl.remote_url}/api/v1/training_runs/{model}/checkpoints/{kind}/{name}/archive"
    # It points to where the file is; this header alone is not sent on when that is another host.
    headers = {"Authorization": f"Bearer {rl.remote_api_key.get_secret_value()}"}
    with tempfile.TemporaryFile() as packed:
        try:
            async with session.get(url, headers=headers) as answer:
                if answer.status != 200:
                    raise BackendError(f"{rl.remote_url} answered {answer.status} for {path}")
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    packed.write(chunk)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BackendError(f"{rl.remote_url} cannot be asked: {error}") from error
        return await asyncio.to_thread(_unpack, packed, folder)


async def hand_over(session: aiohttp.ClientSession, rl: RlSettings, folder: Path, name: str) -> str:
    """Send a saved state, the ``STATE_FILES`` of ``folder``, to the training server; return its path there.

    It stays there for a day. Raises ``InvalidRequestError`` when the server does not take it, ``BackendError`` when it
    cannot be asked.
    """
    url = f"{rl.remote_url}/api/v1/checkpoints/import"
    headers = {"X-API-Key": rl.remote_api_key.get_secret_value(), "Content-Type": "application/gzip"}
    patience = aiohttp.ClientTimeout(total=None, sock_read=rl.remote_timeout_s)
    with tempfile.TemporaryFile() as packed:
        await asyncio.to_thread(_pack, folder, packed)
        try:
            async with session.post(
                url,
                params={"name": name, "ttl_seconds": str(_KEPT_S)},
                data=packed,
                headers=headers,
                timeout=patience,
                allow_redirects=False,  # neither the key nor the weights are for anybody else
            ) as answer:
                told = (await answer.read())[:_MAX_TOLD].decode(errors="replace")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BackendError(f"{rl.remote_url} cannot be asked: {error}") from error
    if answer.status in (400, 404, 405, 413, 422):
        raise InvalidRequestError(f"{rl.remote_url} answered {answer.status}: {told}")
    if answer.status != 200:
        raise BackendError(f"{rl.remote_url} answered {answer.status}: {told}")
    return str(json.loads(told)["tinker_path"])


def _pack(folder: Path, packed: IO[bytes]) -> None:
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:  # weights do not compress
        for name in STATE_FILES:
            archive.add(folder / name, arcname=name, recursive=False)
    packed.seek(0)


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
