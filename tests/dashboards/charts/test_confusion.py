"""Which labels are confused, against counting image by image."""

from dataclasses import replace

import numpy as np
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.charts.confusion import (
    confusion,
    confusion_charts,
    confusion_sentence,
)
from canopy_search.storage.study.predictions import Predictions
from tests.dashboards.charts.test_labels import predicted, study
from tests.dashboards.simulated_predictions import SimulatedData
from tests.dashboards.studies import data


def test_confusion_counts_what_is_given_wrongly() -> None:
    # Three images have a road and no water, of which two are given water; one the other way round.
    given = [[1, 1, 0]] * 6 + [[1, 1, 0], [1, 1, 1], [0, 0, 0]] + [[0, 1, 0]]
    found = confusion(predicted(given))
    assert list(found.labels) == ["road", "water"]  # no image has cloud
    np.testing.assert_allclose(found.recall, [8 / 9, 1.0])
    np.testing.assert_allclose(found.wrong, [[np.nan, 2 / 3], [0.0, np.nan]])
    np.testing.assert_array_equal(found.images, [[0, 3], [1, 0]])


def test_confusion_agrees_with_counting_image_by_image() -> None:
    models = SimulatedData(3, frequencies=(0.6, 0.3, 0.2, 0.1))
    predictions = models.model()
    found = confusion(predictions)
    has, given = models.validation.targets, predictions.logits >= 0
    for row in range(4):
        for column in range(4):
            if row == column:
                continue
            images = [i for i in range(len(has)) if has[i, row] and not has[i, column]]
            share = np.mean([given[i, column] for i in images])
            np.testing.assert_allclose(found.wrong[row, column], share)


def test_an_unknown_target_is_neither_found_nor_confused() -> None:
    models = SimulatedData(3, frequencies=(0.6, 0.3))
    predictions = models.model()
    models.validation.targets[::3, 1] = 255
    has, given = models.validation.targets, predictions.logits >= 0
    found = confusion(predictions)
    images = [i for i in range(len(has)) if has[i, 0] == 1 and has[i, 1] == 0]
    assert found.images[0, 1] == len(images)
    np.testing.assert_allclose(found.wrong[0, 1], np.mean([given[i, 1] for i in images]))


def test_the_sentence_names_the_most_frequent_mistake(words: SnapshotAssertion) -> None:
    models = SimulatedData(1, frequencies=(0.5, 0.5, 0.5))
    logits = np.where(models.validation.targets > 0, 1.0, -1.0).astype(np.float32)
    only_first = (models.validation.targets[:, 0] == 1) & (models.validation.targets[:, 2] == 0)
    logits[np.flatnonzero(only_first)[::2], 2] = 1.0
    logits[models.validation.targets[:, 1] == 1, 1] = -1.0
    says = confusion_sentence(confusion(Predictions(models.validation, logits)))
    assert says.index("label 0") < says.index("label 2") < says.index("label 1: 0 %")
    assert says == words


def test_missing_predictions_and_a_single_label_are_said(words: SnapshotAssertion) -> None:
    (missing,) = confusion_charts(replace(study(), predictions={}))
    assert "trial 1" in missing.sentence
    one = SimulatedData(0, frequencies=(0.5,)).model()
    (single,) = confusion_charts(replace(study(), predictions={1: one}))
    assert not missing.figures
    assert not single.figures
    assert [missing.sentence, single.sentence] == words
    assert confusion_charts(data([])) == []
