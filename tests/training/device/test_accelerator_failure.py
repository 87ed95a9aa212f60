"""Which errors mean that a process can no longer use its accelerator."""

import pytest
import torch

from canopy_search.training.device.accelerator_failure import is_accelerator_failure
from canopy_search.training.errors import DivergedError, OutOfMemoryError


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        torch.AcceleratorError("something new"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be"),
        RuntimeError("CUDA driver error: unknown error"),
        RuntimeError("HIP error: invalid device function"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
        RuntimeError("Native API failed. Native API returns: 20 (UR_RESULT_ERROR_DEVICE_LOST)"),
        RuntimeError("MPS: Command buffer execution failed: Internal Error"),
        RuntimeError("No CUDA GPUs are available"),
    ],
)
def test_an_accelerator_that_fails(error: Exception) -> None:
    assert is_accelerator_failure(error)
    wrapped = DivergedError("a loss")
    wrapped.__cause__ = error
    assert is_accelerator_failure(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("CUDA error: not torch's"),
        MemoryError(),
        OutOfMemoryError("it does not fit (CUDA error: out of memory)", "shrink it", epoch=1),
    ],
)
def test_what_ends_only_a_trial(error: Exception) -> None:
    assert not is_accelerator_failure(error)
