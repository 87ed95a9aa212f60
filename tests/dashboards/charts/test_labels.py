from dataclasses import replace

import numpy as np
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.charts.labels import (
    confusion,
    confusion_charts,
    confusion_sentence,
    figure,
    label_charts,
    label_scores,
    label_sentence,
)
from canopy_search.storage.study.predictions import Predictions, ValidationSet
from tests.dashboards.simulated_predictions import SimulatedData
from tests.dashboards.studies import PRUNED, data, setting, trial

LABELS = ("road", "water", "cloud")
TARGETS = np.array([[1, 1, 0]] * 6 + [[1, 0, 0]] * 3 + [[0, 1, 0]] * 1, dtype=np.uint8)


def predicted(given: list[list[int]]) -> Predictions:
    logits = np.where(np.array(given) > 0, 1.0, -1.0).astype(np.float32)
    return Predictions(ValidationSet("images", LABELS, TARGETS), logits)


def per_label(road: list[float], water: list[float]) -> dict[str, list[float | None]]:
    return {"water": [*water], "road": [*road], "cloud": [None] * len(road)}


def study(base_epochs: int = 2):  # type: ignore[no-untyped-def]
    base = trial(
        0,
        [0.2, 0.3][:base_epochs],
        PRUNED if base_epochs < 2 else "COMPLETE",
        per_label=per_label([0.3, 0.4], [0.1, 0.2]),
    )
    best = trial(
        1,
        [0.3, 0.5],
        params=setting("resnet18"),
        per_label=per_label([0.25, 0.7], [0.35, 0.3]),
    )
    return data([base, best], predictions={1: predicted([[1, 1, 0]] * 10)})


def test_labels_are_sorted_by_how_many_images_have_them() -> None:
    scores = label_scores(study())
    assert [(s.label, s.images) for s in scores] == [("road", 9), ("water", 7)]
    assert [s.best for s in scores] == [0.7, 0.3]
    assert [s.baseline for s in scores] == [0.4, 0.2]


def test_without_predictions_they_are_sorted_by_their_ap(words: SnapshotAssertion) -> None:
    without = replace(study(), predictions={})
    (chart,) = label_charts(without)
    assert f"{chart.title}\n\n{chart.sentence}" == words
    assert [s.images for s in label_scores(without)] == [None, None]


def test_a_baseline_that_was_stopped_is_compared_after_as_many_epochs(
    words: SnapshotAssertion,
) -> None:
    scores = label_scores(study(base_epochs=1))
    assert [(s.baseline, s.level) for s in scores] == [(0.3, 0.25), (0.1, 0.35)]
    assert [round(s.gain or 0, 3) for s in scores] == [-0.05, 0.25]
    says = label_sentence(study(base_epochs=1), scores)
    for number in ("1 of 2 labels", "+.2500 on water", "−.0500 on road", "1 epoch"):
        assert number in says
    assert says == words


def test_the_figure_has_a_mark_for_each_score() -> None:
    drawn = figure(study(), label_scores(study()))
    marks = {trace.name: list(trace.x) for trace in drawn.data if trace.mode == "markers"}
    assert marks == {"baseline, 2 epochs": [0.4, 0.2], "best trial, 2 epochs": [0.7, 0.3]}
    assert list(drawn.data[-1].y) == ["road · 90 %", "water · 70 %"]


def test_the_baseline_as_the_best_is_compared_with_nothing(words: SnapshotAssertion) -> None:
    alone = data([trial(0, [0.1, 0.2], per_label=per_label([0.3, 0.4], [0.1, 0.2]))])
    assert label_sentence(alone, label_scores(alone)) == words


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
