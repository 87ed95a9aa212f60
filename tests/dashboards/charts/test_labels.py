from dataclasses import replace

import numpy as np
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.charts.labels import (
    figure,
    label_charts,
    label_scores,
    label_sentence,
)
from canopy_search.storage.study.predictions import Predictions, ValidationSet
from tests.dashboards.studies import PRUNED, Epochs, data, setting, trial

LABELS = ("road", "water", "cloud")
TARGETS = np.array([[1, 1, 0]] * 6 + [[1, 0, 0]] * 3 + [[0, 1, 0]] * 1, dtype=np.uint8)


def predicted(given: list[list[int]]) -> Predictions:
    logits = np.where(np.array(given) > 0, 1.0, -1.0).astype(np.float32)
    return Predictions(ValidationSet("images", LABELS, TARGETS), logits)


def per_label(road: list[float], water: list[float]) -> dict[str, list[float | None]]:
    return {"water": [*water], "road": [*road], "cloud": [None] * len(road)}


def study(base_epochs: int = 2):
    base = trial(
        0,
        [0.2, 0.3][:base_epochs],
        PRUNED if base_epochs < 2 else "COMPLETE",
        epochs=Epochs(per_label=per_label([0.3, 0.4], [0.1, 0.2])),
    )
    best = trial(
        1,
        [0.3, 0.5],
        epochs=Epochs(per_label=per_label([0.25, 0.7], [0.35, 0.3])),
        params=setting("resnet18"),
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
    assert [round((s.level or 0) - (s.baseline or 0), 3) for s in scores] == [-0.05, 0.25]
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
    alone = data([trial(0, [0.1, 0.2], epochs=Epochs(per_label=per_label([0.3, 0.4], [0.1, 0.2])))])
    assert label_sentence(alone, label_scores(alone)) == words
