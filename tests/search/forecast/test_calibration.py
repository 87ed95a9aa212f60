import dataclasses
import io
from collections.abc import Iterator

import numpy as np
import pytest
from rich.console import Console

from canopy_search.search.errors import SearchFailedError
from canopy_search.search.forecast import calibration
from canopy_search.search.forecast.calibration import calibrate
from canopy_search.search.forecast.speed import Network
from canopy_search.search.progress_display import LineScreen
from canopy_search.search.workers.device_slots import DeviceSlot
from canopy_search.training.data.sample import DataSample
from canopy_search.training.settings import TrainingSettings
from tests.noise_data import noise_dataset
from tests.warm_start import own_forkserver

SETTINGS = TrainingSettings(
    backbone="tinycnn_8", batch_size=8, device="cpu", threads=1, precision="fp32"
)


@pytest.fixture(autouse=True, scope="module")
def begun() -> Iterator[None]:
    """What processes are copies of, as in a command: each would import torch by itself."""
    with own_forkserver():
        yield


def sample() -> DataSample:
    dataset = noise_dataset(16, 8, 0)
    return DataSample(dataset, 24, 16, 8, is_decoded=True, images_per_s=(), decoding_s=0.0)


def test_every_process_measures_every_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_TOTAL_S", 0.0)
    monkeypatch.setattr(calibration, "_LEAST_S", 0.0)
    runs = {
        Network(name, 8): SETTINGS.model_copy(update={"backbone": name})
        for name in ("tinycnn_8", "tinycnn_16")
    }
    shown = io.StringIO()
    measured = calibrate(
        runs, sample(), [DeviceSlot("cpu")] * 2, LineScreen(Console(file=shown)).emit
    )
    assert {network: len(each) for network, each in measured.speeds.items()} == dict.fromkeys(
        runs, 2
    )
    few, many = (measured.speeds[network][0].checkpoint_bytes for network in runs)
    assert few < many
    assert measured.startup_s > 0
    assert "training steps: 4 of 4" in shown.getvalue()


def test_a_network_that_cannot_be_trained_is_said() -> None:
    wrong = SETTINGS.model_copy(update={"backbone": "tinycnn_9"})
    with pytest.raises(SearchFailedError, match="tinycnn_9"):
        calibrate(
            {Network("tinycnn_9", 8): wrong},
            sample(),
            [DeviceSlot("cpu")] * 2,
            LineScreen(Console(file=io.StringIO())).emit,
        )


def test_a_process_that_fails_says_why() -> None:
    broken = dataclasses.replace(sample().dataset, pixels=np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(SearchFailedError, match=r"tinycnn_8 .*: IndexError"):
        calibrate(
            {Network("tinycnn_8", 8): SETTINGS},
            dataclasses.replace(sample(), dataset=broken),
            [DeviceSlot("cpu")],
            LineScreen(Console(file=io.StringIO())).emit,
        )
