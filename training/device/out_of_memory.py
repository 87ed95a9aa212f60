"""Recognises out-of-memory errors of any device, and frees memory that a process holds unused."""

import errno
import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from canopy_search.filestore.messages import first_line

T = TypeVar("T")
_CUDA: Any = torch.cuda  # some of its functions have no types

# Torch has an exception class for its allocators only; other cases differ by message.
_TEXTS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA out of memory",
    "CUDA ran out of memory",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "HIP out of memory",
    "HIP error: out of memory",
    "MPS backend out of memory",
    "XPU out of memory",
    "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",
    "UR_RESULT_ERROR_OUT_OF_HOST_MEMORY",
    "STATUS_ALLOC_FAILED",  # of cuBLAS, cuDNN, cuSPARSE, cuSOLVER
    "ALLOCATION_FAILED",  # of cuDNN 9: device, host and stream
    "CUFFT_ALLOC_FAILED",
)

# What cuDNN and cuBLAS also say if their own memory does not fit: a workspace, or a handle.
_AMBIGUOUS_TEXTS = (
    "unable to find an engine to execute this computation",
    "Unable to find a valid cuDNN algorithm",
    "No valid execution plans built",
    "No execution plans support the graph",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUBLAS_STATUS_INTERNAL_ERROR",
)

_SCARCE_SHARE = 0.1
"""Below this free share of a GPU's memory, an ambiguous error counts as out of memory.

A guess: a workspace seldom needs more. Torch has returned its unused blocks to the driver before an
allocation fails. If the guess is wrong, batches are split until a single step still fails.
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, numpy or Python means that device or host is out of memory.

    Ambiguous errors of cuDNN and cuBLAS do if little memory is free. Call it in the handler of the
    error, while the failed step still holds its memory.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if not isinstance(error, RuntimeError):
        return False
    text = str(error)
    if any(certain in text for certain in _TEXTS):
        return True
    return any(ambiguous in text for ambiguous in _AMBIGUOUS_TEXTS) and _is_memory_scarce()


def shortage_text(error: BaseException) -> str:
    """Returns the failed request on one line, without the allocator's long advice."""
    # CUDA's first two sentences: it is out of memory, and how much it could not allocate.
    return ". ".join(first_line(error).split(". ")[:2]).rstrip(".")


@dataclass(frozen=True)
class Shortage:
    """Why memory ran out, on one line."""

    text: str


def within_memory(work: Callable[[], T]) -> T | Shortage:
    """Does `work`, and returns the shortage if memory runs out.

    It is returned, not raised, because the traceback would keep the tensors of the work alive.
    """
    try:
        return work()
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        return Shortage(shortage_text(error))


def return_unused_memory() -> None:
    """Returns memory that torch caches for later to the GPU's driver, for other processes."""
    if _CUDA.is_initialized():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def free_garbage() -> None:
    """Frees what only reference cycles hold, which takes up to a second, and returns the memory."""
    gc.collect()
    return_unused_memory()


def _is_memory_scarce() -> bool:
    """Whether a GPU that this process computes on is nearly full."""
    if not _CUDA.is_initialized():
        return False
    try:
        # Asking about any other GPU would take memory on it.
        used = [gpu for gpu in range(torch.cuda.device_count()) if torch.cuda.memory_reserved(gpu)]
        free = [torch.cuda.mem_get_info(gpu) for gpu in used]
    except RuntimeError:  # after some errors a GPU answers no more
        return False
    return any(available < _SCARCE_SHARE * total for available, total in free)
