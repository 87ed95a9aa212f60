import copy
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from syrupy.assertion import SnapshotAssertion
from torch import nn

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


def test_validation_without_room_is_that_of_its_epoch(
    memory: ShortMemory, one_thread: None
) -> None:
    memory.evaluation_images = 4
    run = new_run()
    with pytest.raises(OutOfMemoryError) as caught:
        run.train_epoch()
    assert caught.value.epoch == 1
    assert memory.sizes == [8, 8]
    new_run(accumulation=4).train_epoch()


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
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB)",
    ],
)
def test_what_torch_says_only_in_words(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert shortage_text(RuntimeError(text)) == text.splitlines()[0]
    assert not is_out_of_memory(ValueError(text))


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
