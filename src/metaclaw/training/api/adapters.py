"""Which adapters the sampler holds.

Owns loading on first use, reloading after the sampler was restarted, and unloading the least recently used; refuses
to know generations' contents. Invariant: while a lease is held its adapter is not unloaded, and what exists on disk
is never reported missing only because the sampler does not hold it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from metaclaw.errors import EngineError
from metaclaw.training.api.records import Checkpoint
from metaclaw.training.api.workers import Worker
from metaclaw.training.commands import LoadAdapter, UnloadAdapter

MAX_LOADED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An adapter (``None`` is the base model) in one generation of the sampler."""

    adapter_id: str | None
    generation: int


@dataclass(slots=True, kw_only=True)
class _Loaded:
    generation: int
    num_leases: int = 0
    is_loaded: bool = False
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Adapters:
    """The adapters of one sampler process, by checkpoint."""

    def __init__(self, sampler: Worker, *, max_loaded: int = MAX_LOADED) -> None:
        self._sampler = sampler
        self._max_loaded = max_loaded
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()  # least recently used first

    @asynccontextmanager
    async def lease(self, checkpoint: Checkpoint | None) -> AsyncGenerator[Lease]:
        """Have the adapter of ``checkpoint`` in the sampler for as long as the block runs."""
        await self._sampler.ready()
        generation = self._sampler.generation
        if checkpoint is None:
            yield Lease(adapter_id=None, generation=generation)
            return
        adapter_id = str(checkpoint.path)
        entry = self._entry(adapter_id, generation)
        entry.num_leases += 1
        try:
            await self._load(entry, adapter_id, checkpoint)
            await self._unload_surplus()
            yield Lease(adapter_id=adapter_id, generation=generation)
        finally:
            entry.num_leases -= 1

    def _entry(self, adapter_id: str, generation: int) -> _Loaded:
        entry = self._loaded.get(adapter_id)
        if entry is None or entry.generation != generation:
            entry = self._loaded[adapter_id] = _Loaded(generation=generation)
        self._loaded.move_to_end(adapter_id)
        return entry

    async def _load(self, entry: _Loaded, adapter_id: str, checkpoint: Checkpoint) -> None:
        async with entry.loading:
            if entry.is_loaded:
                return
            command = LoadAdapter(adapter_id=adapter_id, directory=str(checkpoint.directory))
            await self._sampler.call(command, generation=entry.generation)
            entry.is_loaded = True

    async def _unload_surplus(self) -> None:
        surplus = len(self._loaded) - self._max_loaded
        for adapter_id, entry in list(self._loaded.items()):
            if surplus <= 0:
                return
            if entry.num_leases:
                continue
            del self._loaded[adapter_id]
            surplus -= 1
            if entry.is_loaded and entry.generation == self._sampler.generation:
                await self._unload(adapter_id, entry.generation)

    async def _unload(self, adapter_id: str, generation: int) -> None:
        try:
            await self._sampler.call(UnloadAdapter(adapter_id=adapter_id), generation=generation)
        except EngineError:
            return  # the process ended, and the adapter with it
