"""Which adapters vLLM holds, under which of its names, and by how many requests.

Owns verification, the copies that vLLM reads, and the counting of requests; refuses to know generations. Invariants:
what was hashed is what vLLM reads, a name of vLLM's is never used twice (its prefix cache knows weights by name
alone), and an adapter is taken out of vLLM when its last request has ended, never before.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from metaclaw.errors import CheckpointError, ConflictError, MetaClawError, NotFoundError
from metaclaw.training import checkpoints
from metaclaw.training.samplers.adapter_config import read_config
from metaclaw.training.samplers.vllm.options import BASE_NAME


class AdapterHost(Protocol):
    """What of vLLM takes adapters."""

    async def load_adapter(self, name: str, directory: str) -> None: ...

    async def unload_adapter(self, name: str) -> None: ...


@dataclass(slots=True, kw_only=True)
class _Held:
    name: str  # vLLM's
    copy: Path
    num_requests: int = 0
    is_retired: bool = False


class VllmAdapters:
    """Adapters by the API's names. ``None`` is the base model, which is always there."""

    def __init__(self, host: AdapterHost, *, base_digest: str, max_rank: int, scratch: Path) -> None:
        self._host = host
        self._base_digest = base_digest
        self._max_rank = max_rank
        self._scratch = scratch
        self._held: dict[str, _Held] = {}
        self._used: set[str] = set()
        self._numbers = count(1)

    async def load(self, adapter_id: str, directory: Path) -> None:
        """Verify ``directory`` and give it to vLLM; raises ``ConflictError`` or ``CheckpointError``."""
        if adapter_id in self._used:
            raise ConflictError(f"the adapter name {adapter_id!r} was used before; every version needs a new one")
        self._used.add(adapter_id)
        name = f"adapter-{next(self._numbers)}"
        held = _Held(name=name, copy=self._scratch / name)
        try:
            await asyncio.to_thread(self._copy, directory, held.copy)
            await self._host.load_adapter(held.name, str(held.copy))
        except MetaClawError as error:
            self._used.discard(adapter_id)
            shutil.rmtree(held.copy, ignore_errors=True)
            if isinstance(error, CheckpointError):
                raise CheckpointError(f"adapter {adapter_id!r} is not served: {error}") from error
            raise
        self._held[adapter_id] = held

    async def unload(self, adapter_id: str) -> None:
        """Serve no new request with this adapter; it leaves vLLM when the running ones have ended."""
        held = self._find(adapter_id)
        held.is_retired = True
        await self._drop_if_unused(adapter_id, held)

    def in_use(self, adapter_id: str | None) -> AbstractAsyncContextManager[str]:
        """Vllm's name of the adapter, kept for as long as the block runs. Raises ``NotFoundError`` at once."""
        return self._kept(adapter_id, None if adapter_id is None else self._find(adapter_id))

    @asynccontextmanager
    async def _kept(self, adapter_id: str | None, held: _Held | None) -> AsyncGenerator[str]:
        if adapter_id is None or held is None:
            yield BASE_NAME
            return
        held.num_requests += 1
        try:
            yield held.name
        finally:
            held.num_requests -= 1
            await asyncio.shield(self._drop_if_unused(adapter_id, held))

    def _find(self, adapter_id: str) -> _Held:
        held = self._held.get(adapter_id)
        if held is None or held.is_retired:
            raise NotFoundError(f"the sampler has no adapter {adapter_id!r}")
        return held

    async def _drop_if_unused(self, adapter_id: str, held: _Held) -> None:
        if held.is_retired and held.num_requests == 0 and self._held.pop(adapter_id, None) is held:
            await self._host.unload_adapter(held.name)
            await asyncio.to_thread(shutil.rmtree, held.copy, ignore_errors=True)

    def _copy(self, directory: Path, copy: Path) -> None:
        """The verified bytes, where nobody else writes, and where they stay when the checkpoint is deleted."""
        manifest, files = checkpoints.read_checkpoint(directory, base_digest=self._base_digest)
        if manifest.rank > self._max_rank:
            raise CheckpointError(f"its rank {manifest.rank} is above max_lora_rank ({self._max_rank})")
        config = read_config(files, origin=str(directory))
        if config.get("rank_pattern"):
            raise CheckpointError(f"{directory}: layers of different ranks are not served by vLLM")
        if _adapts_output(files):
            raise CheckpointError(
                f"{directory}: adapters of the output embedding are not served by vLLM; train with "
                "train_unembed=False, or set train_server.sampler to 'transformers'"
            )
        copy.mkdir(parents=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            if name not in files:
                raise CheckpointError(f"{directory} has no {name}")
            (copy / name).write_bytes(files[name])


def _adapts_output(files: dict[str, bytes]) -> bool:
    """Whether a tensor of the adapter belongs to the output embedding, by the header of its safetensors file."""
    body = files.get("adapter_model.safetensors", b"")
    return b".lm_head." in body[8 : 8 + int.from_bytes(body[:8], "little")]
