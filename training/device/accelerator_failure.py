"""Recognises errors after which a process can no longer use its accelerator."""

import torch

from canopy_search.training.device.out_of_memory import is_out_of_memory

# Torch has an exception class for most of them; libraries, compiled kernels and other accelerators
# differ by message. A call that a library does not support is an error of the trial alone.
_TEXTS = (
    "cuda error",
    "cuda driver error",
    "no cuda gpus are available",
    "hip error",
    "triton error",
    "_status_execution_failed",  # of cuBLAS, cuDNN, cuSOLVER, and so on
    "_status_internal_error",
    "_status_mapping_error",
    "_status_not_initialized",
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "ecc error",
    "device lost",
    "device is lost",
    "gpu is lost",
    "ur_result_error_",  # of XPUs
    "xpu error",
    "command buffer execution failed",  # of MPS
    "iogpucommandbuffer",
)


def is_accelerator_failure(error: BaseException) -> bool:
    """Whether an error of torch means that this process can no longer use its accelerator.

    Memory that ran out is no such error: a smaller batch may fit.
    """
    text = str(error).lower()
    if is_out_of_memory(error) or "out of memory" in text:
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    if isinstance(error, RuntimeError) and any(fragment in text for fragment in _TEXTS):
        return True
    return error.__cause__ is not None and is_accelerator_failure(error.__cause__)
