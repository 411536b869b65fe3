"""Which adapters the sampler holds.

Owns loading on first use, reloading after the sampler was restarted, and unloading the least recently used; refuses
to know generations' contents. Invariants: while a lease is held its adapter is not unloaded; what exists on disk is
never reported missing only because the sampler does not hold it; and loading and unloading run to their end whoever
leaves meanwhile, so that what is remembered here is what the sampler holds.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from metaclaw.errors import EngineError, InvalidRequestError, MetaClawError, UpstreamError
from metaclaw.training.api.background import Background
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
    adapter_id: str  # the sampler takes no name twice, so every load has one of its own
    generation: int
    num_leases: int = 0
    is_loaded: bool = False
    failure: MetaClawError | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # loaded or failed


class Adapters:
    """The adapters of one sampler process, by checkpoint."""

    def __init__(self, sampler: Worker, tasks: Background, *, max_loaded: int = MAX_LOADED) -> None:
        self._sampler = sampler
        self._tasks = tasks
        self._max_loaded = max_loaded
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()  # by path, least recently used first
        self._numbers = count(1)

    @property
    def num_loaded(self) -> int:
        """How many the sampler of now holds."""
        here = self._sampler.generation
        return sum(entry.is_loaded and entry.generation == here for entry in self._loaded.values())

    @asynccontextmanager
    async def lease(self, checkpoint: Checkpoint | None) -> AsyncGenerator[Lease]:
        """Have the adapter of ``checkpoint`` in the sampler for as long as the block runs.

        Raises ``EngineError`` that names the checkpoint when the sampler refuses it: no caller can have damaged it.
        """
        await self._sampler.ready()
        generation = self._sampler.generation
        if checkpoint is None:
            yield Lease(adapter_id=None, generation=generation)
            return
        entry = self._entry(checkpoint, generation)
        entry.num_leases += 1
        try:
            self._unload_surplus()
            await entry.settled.wait()
            if entry.failure is not None:
                raise entry.failure
            yield Lease(adapter_id=entry.adapter_id, generation=generation)
        finally:
            entry.num_leases -= 1

    def _entry(self, checkpoint: Checkpoint, generation: int) -> _Loaded:
        path = str(checkpoint.path)
        entry = self._loaded.get(path)
        if entry is None or entry.generation != generation:
            entry = _Loaded(adapter_id=f"{path}#{next(self._numbers)}", generation=generation)
            self._loaded[path] = entry
            self._tasks.start(self._load(entry, checkpoint))
        self._loaded.move_to_end(path)
        return entry

    async def _load(self, entry: _Loaded, checkpoint: Checkpoint) -> None:
        command = LoadAdapter(adapter_id=entry.adapter_id, directory=str(checkpoint.directory))
        try:
            await self._sampler.call(command, generation=entry.generation)
            entry.is_loaded = True
        except InvalidRequestError as error:
            entry.failure = EngineError(f"the weights {checkpoint.path} cannot be served: {error}")
        except MetaClawError as error:
            entry.failure = error
        finally:
            if not entry.is_loaded:
                entry.failure = entry.failure or EngineError(f"the weights {checkpoint.path} were not loaded")
                self._forget(str(checkpoint.path), entry)  # the next lease tries again
            entry.settled.set()

    def _forget(self, path: str, entry: _Loaded) -> None:
        if self._loaded.get(path) is entry:
            del self._loaded[path]

    def _unload_surplus(self) -> None:
        surplus = len(self._loaded) - self._max_loaded
        for path, entry in list(self._loaded.items()):
            if surplus <= 0:
                return
            if entry.num_leases == 0:
                del self._loaded[path]
                surplus -= 1
                self._tasks.start(self._unload(entry))

    async def _unload(self, entry: _Loaded) -> None:
        await entry.settled.wait()  # whoever asked for it may have left while it was being loaded
        if not entry.is_loaded:
            return
        try:
            await self._sampler.call(UnloadAdapter(adapter_id=entry.adapter_id), generation=entry.generation)
        except (EngineError, UpstreamError):
            return  # the process ended, and the adapter with it
