"""Which adapters are served, under which names, and by how many requests.

Owns the names and the slots' reference counts; refuses to know files, batches and commands. Invariants: a name means
one set of weights for ever (KNOWLEDGE of vLLM: a name used twice serves old keys and values), and a slot is freed when
its last request has ended, never before.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from metaclaw.errors import CheckpointError, ConflictError, NotFoundError
from metaclaw.training.samplers.adapter_files import AdapterWeights
from metaclaw.training.samplers.slots import BASE_SLOT, LoraSlots


@dataclass(slots=True, kw_only=True)
class _Held:
    slot: int
    num_requests: int = 0
    is_retired: bool = False


class AdapterTable:
    """Adapters by name. ``None`` is the base model, which is always there."""

    def __init__(
        self, slots: LoraSlots, *, base_digest: str, max_rank: int, on_free: Callable[[int], None] = lambda _: None
    ) -> None:
        self._slots = slots
        self._on_free = on_free
        self._base_digest = base_digest
        self._max_rank = max_rank
        self._held: dict[str, _Held] = {}
        self._used_names: set[str] = set()

    def claim(self, adapter_id: str) -> None:
        """Take the name for an adapter that is being read; raises ``ConflictError``."""
        if adapter_id in self._used_names:
            raise ConflictError(f"the adapter name {adapter_id!r} was used before; every version needs a new one")
        self._used_names.add(adapter_id)

    def put(self, adapter_id: str, weights: AdapterWeights) -> Iterator[None]:
        """Serve ``weights`` under the name that was claimed, once every part is done.

        Raises ``CheckpointError`` if they do not fit.
        """
        rank = max(pair.rank for pair in weights.values())
        if rank > self._max_rank:
            raise CheckpointError(f"its rank {rank} is above max_lora_rank ({self._max_rank})")
        slot = self._slots.add(weights)
        try:
            yield from self._slots.lay_out(slot)
        except BaseException:
            self._slots.remove(slot)
            raise
        self._held[adapter_id] = _Held(slot=slot)

    def disclaim(self, adapter_id: str) -> None:
        """What was claimed could not be served: the name is free, having meant nothing."""
        self._used_names.discard(adapter_id)

    def unload(self, adapter_id: str) -> None:
        """Serve no new request with this adapter; its memory is freed when the running ones have ended."""
        held = self._find(adapter_id)
        held.is_retired = True
        self._free_if_unused(adapter_id, held)

    def acquire(self, adapter_id: str | None) -> int:
        """The slot for a new request, kept until ``release``; raises ``NotFoundError``."""
        if adapter_id is None:
            return BASE_SLOT
        held = self._find(adapter_id)
        held.num_requests += 1
        return held.slot

    def release(self, adapter_id: str | None) -> None:
        """A request that ``acquire`` answered has ended."""
        if adapter_id is None:
            return
        held = self._held[adapter_id]
        held.num_requests -= 1
        self._free_if_unused(adapter_id, held)

    def _find(self, adapter_id: str) -> _Held:
        held = self._held.get(adapter_id)
        if held is None or held.is_retired:
            raise NotFoundError(f"the sampler has no adapter {adapter_id!r}")
        return held

    def _free_if_unused(self, adapter_id: str, held: _Held) -> None:
        if held.is_retired and held.num_requests == 0:
            del self._held[adapter_id]
            self._slots.remove(held.slot)
            self._on_free(held.slot)
