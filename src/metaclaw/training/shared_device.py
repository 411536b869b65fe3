"""A device that this process shares with others, and may lose.

Owns how a lack of memory is told, when a device is lost to this process, and what is given back to others; refuses to
know jobs. Invariant: what is no error of the device is not taken for one.
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
IDLE_S = 1.0  # after which memory is given back: longer than a client takes from one command to the next


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


def give_back(device: torch.device) -> None:
    """Let other processes have the memory that torch keeps here for later; raises ``DeviceLostError``.

    What the largest pass took stays with its process for ever otherwise: of engine and sampler on one card the one that
    works then lacks what the one that idles keeps ("so that those can be used in other GPU application",
    torch.cuda.empty_cache).
    """
    if device.type != "cuda":
        return
    try:
        torch.cuda.empty_cache()
    except RuntimeError:  # also torch's own assertion, before 2.12, where a recording broke off
        check_device(device)
