from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.images.conversion import Conversion
from canopy_search.training.data.images.decoding import decode_image
from canopy_search.training.data.normalise import normalised
from canopy_search.training.errors import CheckpointError, SettingsError
from canopy_search.training.network.model_file import TrainedModel, load_model, save_model
from canopy_search.training.network.small_nets import SMALL_NETS
from canopy_search.training.prediction import predict, tag_thresholds
from tests.planet_data import write_planet_data

LABELS = ("clear", "road", "water")


@pytest.fixture
def model() -> TrainedModel:
    torch.manual_seed(3)
    settings = {"data": {}, "training": {"backbone": "tinycnn_8", "weights": "none"}}
    return TrainedModel(
        network=SMALL_NETS["tinycnn_8"](len(LABELS)).eval(),
        labels=LABELS,
        image_px=16,
        settings=settings,
        metrics={},
        thresholds={"f1": (0.5, -1.0, 2.0), "f2": (0.0, 0.0, 0.0)},
    )


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    write_planet_data(tmp_path, images=10)
    return sorted((tmp_path / "train-jpg").iterdir())


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_predictions_are_the_network_s_own_in_the_order_of_the_files(
    model: TrainedModel, paths: list[Path], batch_size: int
) -> None:
    pixels = torch.from_numpy(np.stack([decode_image(path.read_bytes(), 16) for path in paths]))
    with torch.inference_mode():
        expected = model.network(normalised(pixels))

    predictions = list(predict(model, paths, device="cpu", batch_size=batch_size))

    assert [prediction.path for prediction in predictions] == paths
    logits = np.stack(
        [prediction.logits for prediction in predictions if prediction.logits is not None]
    )
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(
        [prediction.probabilities for prediction in predictions], expected.sigmoid(), atol=1e-5
    )


def test_an_image_that_cannot_be_read_stops_nothing(model: TrainedModel, paths: list[Path]) -> None:
    whole = {prediction.path: prediction.logits for prediction in predict(model, paths)}
    paths[4].write_bytes(b"")
    paths[5].unlink()

    predictions = list(predict(model, paths, batch_size=3))

    assert len(predictions) == 10
    for at, prediction in enumerate(predictions):
        if at in {4, 5}:
            assert prediction.logits is None
            assert prediction.probabilities == []
        else:
            np.testing.assert_allclose(prediction.logits, whole[prediction.path], atol=1e-5)
    assert "empty" in predictions[4].reason
    assert predictions[5].reason == "No such file or directory"


def test_a_batch_without_a_single_image_is_no_obstacle(
    model: TrainedModel, paths: list[Path], words: SnapshotAssertion
) -> None:
    for path in paths:
        path.write_bytes(b"no image")

    reasons = [prediction.reason for prediction in predict(model, paths, batch_size=4)]

    assert reasons == 10 * reasons[:1]
    assert reasons[0] == words


def test_the_conversion_of_the_training_images_is_applied(
    model: TrainedModel, tmp_path: Path
) -> None:
    twelve_bits = np.random.default_rng(0).integers(0, 4096, (16, 16)).astype(np.uint16)
    Image.fromarray(twelve_bits).save(tmp_path / "deep.png")
    Image.fromarray(np.rint(twelve_bits / 4095 * 255).astype(np.uint8)).save(tmp_path / "8.png")
    save_model(tmp_path / "m.pt", replace(model, conversion=Conversion((1,), (0.0, 4095.0))))
    deep = load_model(tmp_path / "m.pt")

    [expected] = predict(model, [tmp_path / "8.png"], device="cpu")
    [found, refused] = predict(deep, [tmp_path / "deep.png", tmp_path / "8.png"], device="cpu")

    assert np.array_equal(found.logits, expected.logits)
    assert refused.logits is None
    assert "8 bits, but data.range" in refused.reason


def test_memory_does_not_grow_with_the_number_of_images(
    model: TrainedModel, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def counting(
        source: bytes, image_px: int, conversion: Conversion
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        decoded.append(source)
        return decode_image(source, image_px, conversion)

    monkeypatch.setattr("canopy_search.training.prediction.decode_image", counting)
    monkeypatch.setattr("canopy_search.training.prediction.usable_cores", lambda: 2)
    predictions = predict(model, paths * 100, device="cpu", batch_size=4)

    next(predictions)
    predictions.close()

    # A batch that the network has, two that wait, and one image in each thread.
    assert 4 <= len(decoded) <= 4 + 2 * 4 + 2


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:x", "auto:1", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(
    model: TrainedModel, paths: list[Path], device: str
) -> None:
    with pytest.raises(SettingsError, match="device"):
        next(predict(model, paths, device=device))


def test_a_model_that_gives_no_numbers_gives_no_answer(
    model: TrainedModel, paths: list[Path]
) -> None:
    for tensor in model.network.parameters():
        tensor.data.fill_(torch.nan)

    with pytest.raises(CheckpointError, match="NaN"):
        next(predict(model, paths, device="cpu"))


def test_thresholds_come_with_the_model(model: TrainedModel, tmp_path: Path) -> None:
    save_model(tmp_path / "model.pt", model)
    loaded = load_model(tmp_path / "model.pt")

    assert tag_thresholds(loaded, "f1").tolist() == [0.5, -1.0, 2.0]
    assert tag_thresholds(loaded, "half").tolist() == [0, 0, 0]


def test_a_model_of_an_earlier_revision_has_only_one_half(
    model: TrainedModel, tmp_path: Path
) -> None:
    save_model(tmp_path / "model.pt", model)
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    content["revision"] = 1
    del content["thresholds"]
    torch.save(content, tmp_path / "model.pt")

    earlier = load_model(tmp_path / "model.pt")

    assert tag_thresholds(earlier, "half").tolist() == [0, 0, 0]
    with pytest.raises(SettingsError, match=r"'f1'.*--thresholds half"):
        tag_thresholds(earlier, "f1")
