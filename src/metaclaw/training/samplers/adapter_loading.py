"""Adapters on their way into the sampler while answers run.

Owns who reads, and how long the deciding thread spends on it between two steps; refuses to know what is done with
an adapter afterwards. Invariant: what takes time outside Python's lock (reading, hashing) happens in a thread of its
own, what would contend for the lock in small parts between steps, so that neither holds up a token.
"""

# pyright: basic

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from metaclaw.training import checkpoints
from metaclaw.training.samplers.adapter_files import AdapterFile, AdapterWeights, LoraPair, open_adapter, read_layers


@dataclass(slots=True, kw_only=True)
class Load:
    """One adapter. ``weights`` are complete when ``AdapterLoads.advance`` returns it, unless ``error`` is set."""

    frame_id: int
    adapter_id: str
    file: Future[AdapterFile]
    weights: AdapterWeights = field(default_factory=dict)
    error: Exception | None = None
    layers: Iterator[tuple[str, LoraPair]] | None = None


class AdapterLoads:
    """Adapters being loaded, in order of arrival."""

    def __init__(self, base_digest: str, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._base_digest = base_digest
        self._clock = clock
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="adapters")
        self._loads: deque[Load] = deque()

    @property
    def is_any_open(self) -> bool:
        """Whether an adapter is on its way."""
        return bool(self._loads)

    def start(self, frame_id: int, adapter_id: str, directory: Path) -> None:
        """Begin to read ``directory``."""
        self._loads.append(
            Load(frame_id=frame_id, adapter_id=adapter_id, file=self._reader.submit(self._read, directory))
        )

    def advance(self, spare_s: float | None) -> Load | None:
        """Spend about ``spare_s`` (``None``: whatever it takes) on the oldest; returns it once it has ended."""
        if not self._loads or (spare_s is not None and not self._loads[0].file.done()):
            return None
        load, began = self._loads[0], self._clock()
        try:
            if load.layers is None:
                load.layers = read_layers(load.file.result())
            for name, pair in load.layers:
                load.weights[name] = pair
                if spare_s is not None and self._clock() - began > spare_s:
                    return None
        except Exception as error:  # noqa: BLE001 - the job boundary: whoever asked for it is told
            load.error = error
        return self._loads.popleft()

    def _read(self, directory: Path) -> AdapterFile:
        # What was hashed is what is decoded: nobody can change the files in between.
        _, files = checkpoints.read_checkpoint(directory, base_digest=self._base_digest)
        return open_adapter(files, origin=str(directory))
