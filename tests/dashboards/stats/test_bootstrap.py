import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from canopy_search.dashboards.stats.bootstrap import rank_label, resample_ap, weighted_ap
from canopy_search.storage.study.predictions import Predictions, ValidationSet
from canopy_search.training.metrics import average_precision
from tests.dashboards.simulated_predictions import SimulatedData


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_weighted_ap_is_scikit_learn_s_of_the_repeated_images(
    images: int, values: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(values, size=images).astype(np.float32)  # with ties
    targets = random.integers(2, size=images, dtype=np.uint8)
    targets[random.integers(images)] = 1
    weights = random.integers(4, size=(images, 3))

    found = weighted_ap(rank_label(scores, targets), weights.astype(np.float32))

    for ap, counts in zip(found, weights.T, strict=True):
        repeated = np.repeat(targets, counts)
        if repeated.any():
            expected = average_precision_score(repeated, np.repeat(scores, counts))
            assert ap == pytest.approx(expected, abs=1e-6)
        else:
            assert np.isnan(ap)


def test_what_is_observed_is_the_macro_ap_of_training() -> None:
    data = SimulatedData(0, frequencies=(0.5, 0.1, 0.0))  # the last one has no positive
    models = [data.model(), data.model()]
    targets = torch.tensor(data.validation.targets)
    expected = [
        np.nanmean(average_precision(torch.tensor(model.logits), targets)) for model in models
    ]
    np.testing.assert_allclose(resample_ap(models, resamples=2).observed, expected, atol=1e-6)


def test_unknown_targets_and_labels_of_every_image_are_left_out() -> None:
    data = SimulatedData(0, frequencies=(0.5, 0.3, 1.0))
    targets = data.validation.targets
    targets[np.random.default_rng(1).random(targets.shape) < 0.3] = 255
    model = data.model()
    as_floats = torch.tensor(np.where(targets == 255, np.nan, targets))
    ap = average_precision(torch.tensor(model.logits), as_floats)
    assert np.isnan(ap).tolist() == [False, False, True]

    found = resample_ap([model], resamples=2)

    np.testing.assert_allclose(found.observed, [np.nanmean(ap)], atol=1e-6)


def test_a_drawing_is_the_same_for_all_trials_and_for_the_same_seed() -> None:
    data = SimulatedData(0)
    first, second = data.model(), data.model()
    together = resample_ap([first, second, first], resamples=20)
    np.testing.assert_array_equal(together.resampled[:, 0], together.resampled[:, 2])
    again = resample_ap([second], resamples=20)
    np.testing.assert_array_equal(together.resampled[:, 1:2], again.resampled)
    other = resample_ap([second], resamples=20, seed=1)
    assert (other.resampled != again.resampled).all()


def test_each_resample_has_the_macro_ap_of_the_images_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = SimulatedData(3, images=30, frequencies=(0.4, 0.05))
    model = data.model()
    monkeypatch.setattr(
        "canopy_search.dashboards.stats.bootstrap._COUNTS_AT_ONCE", 4 * 30
    )  # in several parts
    found = resample_ap([model], resamples=10, seed=5).resampled[:, 0]

    random = np.random.default_rng(5)
    for ap in found:
        drawn = random.integers(30, size=30)
        targets, logits = data.validation.targets[drawn], model.logits[drawn]
        each = [
            average_precision_score(targets[:, label], logits[:, label])
            for label in np.flatnonzero(targets.any(axis=0))
        ]
        assert ap == pytest.approx(np.mean(each), abs=1e-6)


def test_drawings_without_any_positive_are_left_out() -> None:
    targets = np.zeros((12, 1), dtype=np.uint8)
    targets[0] = 1
    images = ValidationSet("one positive", ("haze",), targets)
    model = Predictions(images, np.arange(12, dtype=np.float32)[:, None])
    found = resample_ap([model], resamples=200).resampled
    assert 0 < len(found) < 200
    assert not np.isnan(found).any()
