"""Recognises out-of-memory errors of any device."""

import torch

# Torch has an exception class for its CUDA allocator only; other cases differ by message.
_TEXTS = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, numpy or Python means that device or host is out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)


def shortage_text(error: BaseException) -> str:
    """Returns the failed request on one line, without the allocator's long advice."""
    first = str(error).partition("\n")[0]
    if not first:
        return type(error).__name__
    # CUDA's first two sentences: it is out of memory, and how much it could not allocate.
    return ". ".join(first.split(". ")[:2]).rstrip(".")
