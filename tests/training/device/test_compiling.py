import threading
from typing import Any

import pytest
import torch
from syrupy.assertion import SnapshotAssertion
from torch import nn

from canopy_search.training.checkpoint import snapshot
from canopy_search.training.device import compiling
from canopy_search.training.device.compiling import (
    PAYS_FROM_STEPS,
    CompiledNetwork,
    resolve_compile,
)
from canopy_search.training.errors import SettingsError
from canopy_search.training.liveness import LONGEST_SILENCE_S, heard_by
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings
from tests.noise_data import noise_dataset
from tests.training.test_run import assert_same_state

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces and cuts a network as Inductor has it, and runs it without making programs of it."""
    monkeypatch.setattr(compiling, "_BACKEND", "aot_eager")


@pytest.mark.parametrize(
    ("device", "steps", "how"),
    [
        (CUDA, PAYS_FROM_STEPS, "on"),
        (CUDA, PAYS_FROM_STEPS - 1, "off"),
        (CUDA, 0, "off"),
        (CPU, 10**9, "off"),
        (MPS, 10**9, "off"),
    ],
)
def test_auto_compiles_where_it_pays(device: torch.device, steps: int, how: str) -> None:
    assert resolve_compile("auto", device, steps) == how


def test_what_is_asked_for_is_done() -> None:
    assert resolve_compile("on", CPU, 0) == "on"
    assert resolve_compile("off", CUDA, 10**9) == "off"
    assert resolve_compile("graphs", CUDA, 0) == "graphs"


@pytest.mark.parametrize("device", [CPU, MPS])
def test_graphs_need_a_gpu_of_nvidia(device: torch.device) -> None:
    with pytest.raises(SettingsError, match=r"^training\.compile: graphs .* CUDA"):
        resolve_compile("graphs", device, 0)


def test_auto_is_no_way_to_call_a_network() -> None:
    with pytest.raises(ValueError, match=r"training\.compile is auto"):
        CompiledNetwork(nn.Linear(1, 1), "auto")


def compiled_ways(monkeypatch: pytest.MonkeyPatch, how: Any) -> CompiledNetwork:
    """A network that answers with the mode that it was compiled in."""

    def compile_network(network: nn.Module, *, mode: str | None, **options: Any) -> Any:
        assert options["dynamic"] is False
        return lambda images: images + {None: 1, "reduce-overhead": 2}[mode]

    monkeypatch.setattr(torch, "compile", compile_network)
    return CompiledNetwork(nn.Identity(), how)


def test_a_part_of_a_batch_is_never_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(())
    answers = {
        how: [int(compiled_ways(monkeypatch, how)(images, is_cut=cut)) for cut in (False, True)]
        for how in ("off", "on", "graphs")
    }
    assert answers == {"off": [0, 0], "on": [1, 1], "graphs": [2, 1]}


def settings(**values: Any) -> TrainingSettings:
    fixed = {"device": "cpu", "precision": "fp32", "threads": 1, "backbone": "tinycnn_8"}
    return TrainingSettings.model_validate(fixed | {"epochs": 2, "batch_size": 8} | values)


def run_of(**values: Any) -> TrainingRun:
    return TrainingRun.of(settings(**values), noise_dataset(train=15, validation=6, test=1))


def test_a_compiled_run_trains_its_network_and_goes_on_as_if_it_had_not_stopped(
    no_compiler: None, one_thread: None
) -> None:
    plain, straight = run_of(), run_of(compile="on")
    losses = [straight.train_epoch().train_loss]
    state = snapshot(straight.state())
    losses.append(straight.train_epoch().train_loss)
    assert losses == pytest.approx([plain.train_epoch().train_loss for _ in range(2)], rel=1e-3)
    assert straight.state()["model"].keys() == plain.state()["model"].keys()

    resumed = run_of(compile="on")
    resumed.restore(state)
    resumed.train_epoch()
    assert_same_state(straight.state(), resumed.state())


@pytest.mark.exhaustive
@pytest.mark.parametrize("before", [(5,), (2, 3, 5)])
def test_the_size_of_what_was_trained_before_changes_nothing(
    no_compiler: None, one_thread: None, before: tuple[int, ...]
) -> None:
    first = run_of(compile="on")
    first.train_epoch()
    for batch_size in before:
        run_of(compile="on", batch_size=batch_size).train_epoch()
    again = run_of(compile="on")
    again.train_epoch()
    assert_same_state(first.state(), again.state())


def test_a_machine_without_a_compiler_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, one_thread: None, words: SnapshotAssertion
) -> None:
    before = set(threading.enumerate())

    def backend(*arguments: object) -> object:
        raise RuntimeError("No working C++ compiler found\n\nSet TORCH_LOGS")

    monkeypatch.setattr(compiling, "_BACKEND", backend)
    with pytest.raises(SettingsError) as caught:
        run_of(compile="on").train_epoch()
    message = str(caught.value)
    assert message == words
    assert not [each for each in set(threading.enumerate()) - before if "canopy-data" in each.name]
    assert "TORCH_LOGS" not in message
    assert "\n" not in message


def test_errors_of_a_network_that_runs_stay_what_they_are(one_thread: None) -> None:
    network = CompiledNetwork(nn.Linear(2, 1), "off")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        network(torch.zeros(1, 3))


@pytest.mark.usefixtures("no_compiler")
def test_compiling_is_a_step_of_which_nothing_is_heard() -> None:
    network = CompiledNetwork(nn.Flatten(), "on")
    heard: list[float] = []
    with heard_by(heard.append):
        for size in (4, 4, 3, 4):
            network(torch.zeros(size, 3, 2, 2))
    assert heard == [LONGEST_SILENCE_S, 0.0] * 2
