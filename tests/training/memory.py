"""A device with little memory: a stand-in for an allocator that runs out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Memory(TorchDispatchMode):
    """Within, tensors that are made may take ``limit`` bytes together; one that would not fit is refused.

    What was made before does not count. ``used`` is what is alive, ``peak`` the most that was.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    @property
    def used(self) -> int:
        self._alive = {key: each for key, each in self._alive.items() if not each[0].expired()}
        return sum(size for _, size in self._alive.values())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {each.untyped_storage()._cdata for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, Tensor) or (storage := tensor.untyped_storage())._cdata in given:
                continue
            self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
            used = self.used
            if used > self.limit:
                del result, tensor, storage
                raise torch.OutOfMemoryError("CUDA out of memory.")
            self.peak = max(self.peak, used)
        return result
