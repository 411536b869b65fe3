"""Adapters on their way into the sampler while answers run.

Owns who reads, and how long the deciding thread spends on it between two steps; refuses to know how an adapter is
put into service. Invariant: what takes time outside Python's lock (reading, hashing) happens in a thread of its own,
what would contend for the lock or for the model in small parts between steps, so that neither holds up a token.
"""

# pyright: basic

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from metaclaw.training import checkpoints
from metaclaw.training.samplers.adapter_files import AdapterFile, AdapterWeights, open_adapter, read_layers

Serve = Callable[[str, AdapterWeights], Iterator[None]]  # puts a whole adapter into service, in small parts


@dataclass(slots=True, kw_only=True)
class Load:
    """One adapter. It is served when ``AdapterLoads.advance`` returns it, unless ``error`` is set."""

    frame_id: int
    adapter_id: str
    file: Future[AdapterFile]
    error: Exception | None = None
    parts: Iterator[None] | None = None


class AdapterLoads:
    """Adapters being loaded, in order of arrival."""

    def __init__(self, base_digest: str, serve: Serve, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._base_digest = base_digest
        self._serve = serve
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
            if load.parts is None:
                load.parts = self._parts(load)
            for _ in load.parts:
                if spare_s is not None and self._clock() - began > spare_s:
                    return None
        except Exception as error:  # noqa: BLE001 - the job boundary: whoever asked for it is told
            load.error = error
        return self._loads.popleft()

    def again(self, load: Load) -> None:
        """Put a load that has ended into service once more, from the file that was read."""
        load.error = load.parts = None
        self._loads.appendleft(load)

    def _parts(self, load: Load) -> Iterator[None]:
        weights: AdapterWeights = {}
        for name, pair in read_layers(load.file.result()):
            weights[name] = pair
            yield
        yield from self._serve(load.adapter_id, weights)

    def _read(self, directory: Path) -> AdapterFile:
        # What was hashed is what is decoded: nobody can change the files in between.
        _, files = checkpoints.read_checkpoint(directory, base_digest=self._base_digest)
        return open_adapter(files, origin=str(directory))
