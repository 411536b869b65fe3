"""What an error of torch says about the device.

Owns how a lack of memory is told, and when a device is lost to this process; refuses to know jobs and what is done
about either. Invariant: what is no error of the device is not taken for one.
"""

# pyright: basic

from __future__ import annotations

import torch

from metaclaw.training.failures import DeviceLostError

# How torch's CPU allocator, C++ below it, its kernels, CUDA and CUDA's libraries say that there is no memory. torch has
# a class of its own for what its CUDA allocator could not get, and for nothing else.
_NO_MEMORY = (
    "can't allocate memory", "bad_alloc", "Cannot allocate memory", "CUDA error: out of memory", "_ALLOC_FAILED",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is an allocation that failed."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def check_device(device: torch.device) -> None:
    """Raise ``DeviceLostError`` if the device does nothing any more. To be asked after an error, since it waits.

    After a kernel's fault, or the loss of the card, each call returns the same error: "To continue using CUDA, the
    process must be terminated and relaunched" (CUDA Runtime API, cudaErrorIllegalAddress and its like).
    """
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        raise DeviceLostError(f"{device} is lost to this process: {error}") from error
