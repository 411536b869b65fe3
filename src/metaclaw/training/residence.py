"""Where models' tensors are kept: on the device, in the host's memory, or in files.

Owns the budgets, the order of moving (the least recently used first) and the files; refuses to know what the tensors
are. Invariant: every model is in exactly one place, whole, and ``use`` brings it back; the model in use stays, however
small the budget.

Files live as long as the process: the folder is emptied at the start, and nothing is synced.
"""

# pyright: basic

from __future__ import annotations

import logging
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from metaclaw.errors import EngineError

_RETRY_S = 60.0  # after a disk refused; until then models stay where they are, beyond the budget

Place = Literal["device", "host", "disk"]

_log = logging.getLogger(__name__)


class Movable(Protocol):
    """A model's tensors, as far as moving them goes."""

    def size_bytes(self) -> int: ...

    def take_out(self) -> dict[str, Tensor]: ...

    def put_back(self, tensors: Mapping[str, Tensor], device: torch.device) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Bytes that models may take. Where the device is the CPU, its memory is the host's: there is one budget, ``host``.

    ``folder`` of ``None``: nothing ever leaves the host's memory.
    """

    device: int
    host: int
    folder: Path | None


class Residence:
    """The models of one engine. One thread only."""

    def __init__(self, device: torch.device, budgets: Budgets, clock: Callable[[], float] = time.monotonic) -> None:
        self._device = device
        self._has_host = device.type != "cpu"
        self._budgets = budgets
        self._clock = clock
        self._models: dict[str, Movable] = {}
        self._on_device: OrderedDict[str, int] = OrderedDict()  # sizes, the least recently used first
        self._in_host: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._on_disk: dict[str, Path] = {}
        self._latest = ""
        self._num_files = 0
        self._disk_refused_at = -_RETRY_S
        if budgets.folder is not None:
            shutil.rmtree(budgets.folder, ignore_errors=True)  # what an engine before this one left
            budgets.folder.mkdir(mode=0o700, parents=True)

    def add(self, name: str, model: Movable) -> None:
        """Take in a model whose tensors are on the device. One of that name is forgotten."""
        self.forget(name)
        self._models[name] = model
        self._on_device[name] = model.size_bytes()
        self._latest = name
        self._make_room(keep=name, needed=0)

    def forget(self, name: str) -> None:
        """Drop what is kept of a model, if anything is."""
        self._models.pop(name, None)
        self._on_device.pop(name, None)
        self._in_host.pop(name, None)
        file = self._on_disk.pop(name, None)
        if file is not None:
            file.unlink(missing_ok=True)

    def place_of(self, name: str) -> Place:
        """Where a model is now."""
        return "device" if name in self._on_device else "host" if name in self._in_host else "disk"

    def use(self, name: str) -> None:
        """Have the model on the device; others make room for it."""
        if self._latest in self._on_device:  # only what was in use can have grown
            self._on_device[self._latest] = self._models[self._latest].size_bytes()
        self._latest = name
        if name in self._on_device:
            self._on_device.move_to_end(name)
            self._make_room(keep=name, needed=0)
            return
        tensors = self._in_host[name] if name in self._in_host else self._read(name)
        needed = _size_of(tensors)
        self._make_room(keep=name, needed=needed)
        self._bring(name, tensors)
        self._on_device[name] = needed
        self._in_host.pop(name, None)
        file = self._on_disk.pop(name, None)
        if file is not None:
            file.unlink(missing_ok=True)

    def _bring(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        model = self._models[name]
        try:
            model.put_back(tensors, self._device)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError):
            model.take_out()  # what was copied before memory ran out; the rest is where it was
            while len(self._on_device) and self._move_out(next(iter(self._on_device))):
                pass  # the budget was too large for what else is on the device: all others go
            model.put_back(tensors, self._device)

    def _make_room(self, *, keep: str, needed: int) -> None:
        limit = self._budgets.device if self._has_host else self._budgets.host
        for name in list(self._on_device):
            if sum(self._on_device.values()) + needed <= limit:
                return
            if name != keep and not self._move_out(name):
                return

    def _move_out(self, name: str) -> bool:
        """From the device to the host, or to disk where those are one. False when the disk refuses."""
        model = self._models[name]
        if self._has_host:
            tensors = model.take_out()
            try:
                self._in_host[name] = {key: tensor.to("cpu") for key, tensor in tensors.items()}
            except BaseException:  # no memory in the host either: it was nowhere any more
                model.put_back(tensors, self._device)
                raise
            del self._on_device[name]
            self._relieve_host()
            return True
        if not self._can_write():
            return False
        tensors = model.take_out()
        if not self._write(name, tensors):
            model.put_back(tensors, self._device)
            return False
        del self._on_device[name]
        return True

    def _relieve_host(self) -> None:
        for name in list(self._in_host):
            if sum(map(_size_of, self._in_host.values())) <= self._budgets.host or not self._can_write():
                return
            if self._write(name, self._in_host[name]):
                del self._in_host[name]

    def _can_write(self) -> bool:
        return self._budgets.folder is not None and self._clock() - self._disk_refused_at >= _RETRY_S

    def _write(self, name: str, tensors: dict[str, Tensor]) -> bool:
        assert self._budgets.folder is not None
        self._num_files += 1
        file = self._budgets.folder / f"{self._num_files}.safetensors"  # a model's id never becomes a path
        try:
            safetensors.torch.save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file)
        except (OSError, SafetensorError) as error:
            self._disk_refused_at = self._clock()
            file.unlink(missing_ok=True)
            _log.warning("idle adapters stay in memory, beyond its budget: %s cannot be written (%s)", file, error)
            return False
        self._on_disk[name] = file
        return True

    def _read(self, name: str) -> dict[str, Tensor]:
        file = self._on_disk[name]
        try:
            return safetensors.torch.load_file(file)
        except (OSError, SafetensorError) as error:
            raise EngineError(
                f"the state of {name!r}, moved to {file} while it was idle, cannot be read: {error}. "
                "Load it again from its last checkpoint."
            ) from error


def _size_of(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
