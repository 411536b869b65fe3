"""Which memory each sequence gets.

Owns the reservation of rows, the reuse of what earlier answers computed, and the limit over all of it; refuses to
know schedules and models. Invariant: what the rows in use may grow to, and what is kept beside them, together
never exceed ``max_places``, except for a single request that alone is larger.
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from metaclaw.training.samplers.kv_rows import KvRow, capacity_for
from metaclaw.training.samplers.prefix_cache import Match, PrefixCache
from metaclaw.training.samplers.requests import Request
from metaclaw.training.shared_device import is_out_of_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLimits:
    """A place is one token's keys and values."""

    max_rows: int
    max_places: int
    kept_places: int  # of rows whose answers ended; 0 keeps none
    max_context: int


class Rows:
    """Hands out rows."""

    def __init__(self, limits: RowLimits, device: torch.device) -> None:
        self._limits = limits
        self._device = device
        self._kept = PrefixCache(limits.kept_places)

    def make_room(self, num_reserved: int, request: Request) -> bool:
        """Whether ``request`` fits beside ``num_reserved`` places; what is only kept makes way for it."""
        needed = min(request.num_open, self._limits.max_rows) * request.final_length
        if num_reserved and num_reserved + needed > self._limits.max_places:
            return False
        self._kept.shrink(max(0, self._limits.max_places - num_reserved - needed))
        return True

    def begin(self, request: Request, in_use: Iterable[KvRow]) -> KvRow:
        """A row for the prompt of ``request``, filled as far as is known. ``in_use``: others with its adapter."""
        # Log-probs of the prompt need every place anew; and the last token must be read to have its logits.
        match = None if request.wants_prompt else self._kept.find(request.slot, request.prompt[:-1], list(in_use))
        if match is None:
            return self._new(request)
        request.num_cached = match.length
        if self._can_go_on_in(match, request):
            self._kept.take(match.row)
            match.row.truncate(match.length)
            return match.row
        return self.copy(match.row, match.length, request)

    def copy(self, source: KvRow, length: int, request: Request) -> KvRow:
        """A new row that begins like ``source``."""
        try:
            return self._copied(source, length, request)
        except (MemoryError, RuntimeError) as error:
            if not (is_out_of_memory(error) and self.let_go()):
                raise
        return self._copied(source, length, request)  # not before: the error holds what there was memory for

    def let_go(self) -> bool:
        """Forget what is only kept, for want of memory; whether anything was.

        The limits are of what was free when the model was loaded: on one GPU training takes of it for a pass.
        """
        had_any = self._kept.num_places > 0
        self._kept.shrink(0)
        return had_any

    def end(self, request: Request, row: KvRow) -> None:
        """``row`` is no longer used; it is kept for prompts that begin like it."""
        if not request.has_failed:
            self._kept.keep(request.slot, row)

    def forget_slot(self, slot: int) -> None:
        """An adapter is no longer served."""
        self._kept.drop(slot)

    def _can_go_on_in(self, match: Match, request: Request) -> bool:
        # Going on in a row costs nothing but what lies behind the common beginning: not if that is the most of it.
        return match.is_kept and match.row.capacity >= request.final_length and 2 * match.length >= match.row.length

    def _copied(self, source: KvRow, length: int, request: Request) -> KvRow:
        row = self._new(request)
        row.copy_beginning(source, length)
        return row

    def _new(self, request: Request) -> KvRow:
        return KvRow(capacity_for(request.final_length, self._limits.max_context, self._device))
