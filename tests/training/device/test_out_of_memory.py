import copy
import errno
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from syrupy.assertion import SnapshotAssertion
from torch import nn

from canopy_search.training import run as training_run
from canopy_search.training.device.out_of_memory import is_out_of_memory, shortage_text
from canopy_search.training.errors import OutOfMemoryError
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings
from tests.noise_data import noise_dataset
from tests.short_memory import SHORTAGE, ShortMemory

SETTINGS = TrainingSettings.model_validate(
    {"device": "cpu", "precision": "fp32", "threads": 1, "backbone": "tinycnn_8"}
    | {"epochs": 3, "batch_size": 8}
)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ShortMemory:
    return ShortMemory(monkeypatch)


def new_run(accumulation: int = 1) -> TrainingRun:
    return TrainingRun.of(SETTINGS, noise_dataset(train=16, validation=6, test=1), accumulation)


def fails_with(run: TrainingRun, fail: Callable[..., Any]) -> OutOfMemoryError:
    run.model.register_forward_pre_hook(fail)
    with pytest.raises(OutOfMemoryError) as caught:
        run.train_epoch()
    return caught.value


def test_an_epoch_without_room_says_what_and_where(
    memory: ShortMemory, one_thread: None, words: SnapshotAssertion
) -> None:
    run = new_run()
    run.train_epoch()
    memory.training_images = 4
    with pytest.raises(OutOfMemoryError) as caught:
        run.train_epoch()
    assert caught.value.epoch == 2
    assert str(caught.value) == words
    assert caught.value.exit_status == 1

    memory.training_images = 1
    with pytest.raises(OutOfMemoryError) as caught:
        new_run(accumulation=2).train_epoch()
    assert str(caught.value) == words


def test_validation_without_room_has_smaller_batches_of_its_own(
    memory: ShortMemory, one_thread: None
) -> None:
    memory.evaluation_images = 2
    run = new_run()
    run.train_epoch()
    assert memory.sizes == [8, 8], "training is not cut"
    assert memory.evaluation_sizes == [1] * 6
    assert run.accumulation == 1

    shortages = memory.shortages
    run.train_epoch()
    run.evaluate(run.dataset.split.test)
    assert memory.shortages == shortages, "later evaluations do not try what did not fit"
    assert memory.sizes == [8] * 4


def test_validation_without_room_for_one_image_is_no_reason_to_cut_training(
    memory: ShortMemory, one_thread: None, words: SnapshotAssertion
) -> None:
    memory.evaluation_images = 0
    with pytest.raises(OutOfMemoryError) as caught:
        new_run().train_epoch()
    assert (caught.value.epoch, caught.value.cut_helps, caught.value.made_room) == (1, False, False)
    assert str(caught.value) == words


def test_a_new_network_begins_without_the_unused_memory_of_another(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    emptied: list[bool] = []
    run = new_run()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    run.train_epoch()
    assert emptied == []
    new_run()
    assert emptied == [True]


@pytest.mark.parametrize("lacks", [1, 2])
@pytest.mark.parametrize("name", ["build_optimizer", "loss_for", "build_backbone"])
def test_a_network_that_is_built_has_a_second_try(
    name: str, lacks: int, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    build, tries = getattr(training_run, name), []

    def lacking(*arguments: Any, **options: Any) -> Any:
        tries.append(name)
        if len(tries) <= lacks:
            raise torch.OutOfMemoryError(SHORTAGE)
        return build(*arguments, **options)

    monkeypatch.setattr(training_run, name, lacking)
    if lacks == 1:
        new_run()
        return
    with pytest.raises(OutOfMemoryError) as caught:
        new_run()
    assert str(caught.value) == words
    assert not caught.value.cut_helps


@pytest.mark.parametrize("lacks", [1, 2])
def test_a_state_that_is_restored_has_a_second_try(
    lacks: int, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    run, tries = new_run(), []
    run.train_epoch()
    state = copy.deepcopy(run.state())
    other = new_run()
    load = other._optimizer.load_state_dict

    def lacking(state: Any) -> None:
        tries.append(state)
        if len(tries) <= lacks:
            raise RuntimeError("CUDA error: out of memory")
        load(state)

    monkeypatch.setattr(other._optimizer, "load_state_dict", lacking)
    if lacks == 2:
        with pytest.raises(OutOfMemoryError):
            other.restore(state)
        return
    other.restore(state)
    assert other.train_epoch().validation.metrics == run.train_epoch().validation.metrics


def torch_s_own(*arguments: Any) -> None:
    torch.empty(2**50)


def numpy_s_own(*arguments: Any) -> None:
    np.empty(2**50)


def python_s_own(*arguments: Any) -> None:
    bytearray(2**62)


@pytest.mark.parametrize(
    ("fail", "text"),
    [
        (torch_s_own, "DefaultCPUAllocator: "),
        (numpy_s_own, "Unable to allocate 8.00 PiB"),
        (python_s_own, "MemoryError"),
    ],
)
def test_the_host_s_memory_counts_too(
    fail: Callable[..., Any], text: str, one_thread: None
) -> None:
    assert text in fails_with(new_run(), fail).facts


@pytest.mark.parametrize("error", [RuntimeError("no luck"), ValueError("out of memory")])
def test_other_errors_stay_what_they_are(error: Exception, one_thread: None) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    run = new_run()
    run.model.register_forward_pre_hook(fail)
    with pytest.raises(type(error), match=str(error)):
        run.train_epoch()


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA ran out of memory outside PyTorch's allocator",
        "HIP out of memory",
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB)",
        "XPU out of memory",
    ],
)
def test_what_torch_says_only_in_words(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert shortage_text(RuntimeError(text)) == text.splitlines()[0]
    assert not is_out_of_memory(ValueError(text))


def test_the_system_says_it_with_a_number() -> None:
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not is_out_of_memory(OSError(errno.ENOSPC, "No space left on device"))


class OneGpu:
    """The second GPU in name only: what this process holds there, and what is free."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reserved, self.free, self.total = 4, 5, 100
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "memory_reserved", [0, self.reserved].__getitem__)
        monkeypatch.setattr(torch.cuda, "mem_get_info", self.info)

    def info(self, gpu: int) -> tuple[int, int]:
        assert gpu == 1, "asking about another GPU takes memory on it"
        if self.free < 0:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return self.free, self.total


@pytest.mark.parametrize(
    "text",
    [
        "GET was unable to find an engine to execute this computation",
        "FIND was unable to find an engine to execute this computation",
        "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a "
        "non-contiguous input.",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    ],
)
def test_what_may_be_another_fault_is_a_shortage_on_a_full_gpu(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError(text)
    assert not is_out_of_memory(error), "there is no GPU"
    gpu = OneGpu(monkeypatch)
    assert is_out_of_memory(error)
    gpu.free = 50
    assert not is_out_of_memory(error)
    gpu.free = -1
    assert not is_out_of_memory(error)


def test_torch_s_advice_is_left_out() -> None:
    assert shortage_text(torch.OutOfMemoryError(SHORTAGE)) == (
        "CUDA out of memory. Tried to allocate 2.00 GiB"
    )


def test_what_the_step_held_is_free_when_the_error_arrives(one_thread: None) -> None:
    on_device: list[weakref.ref[torch.Tensor]] = []

    def fail(_head: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        on_device.append(weakref.ref(inputs[0]))
        raise torch.OutOfMemoryError(SHORTAGE)

    run = new_run()
    *_, head = run.model.modules()
    head.register_forward_pre_hook(fail)
    with pytest.raises(OutOfMemoryError) as caught:
        run.train_epoch()
    assert [tensor() for tensor in on_device] == [None]
    assert caught.value.__context__ is None


def test_a_run_goes_on_from_a_state_before(memory: ShortMemory, one_thread: None) -> None:
    run = new_run()
    run.train_epoch()
    state = copy.deepcopy(run.state())
    memory.training_images = 4
    with pytest.raises(OutOfMemoryError):
        run.train_epoch()
    run.restore(state)
    run.accumulation = 2

    straight = new_run()
    memory.training_images = None
    straight.train_epoch()
    straight.accumulation = 2
    assert run.train_epoch().validation.metrics == straight.train_epoch().validation.metrics
    for one, other in zip(run.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(one, other)
