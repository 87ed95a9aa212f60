"""Figures hold what Postgres says, and nothing that a page could not show."""

import json
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from sklearn.metrics import recall_score

from canopy_search.dashboards.clearml.figures import (
    ap_over_trials,
    confusion_shares,
    label_ap,
    label_confusion,
    learning_curves,
)
from canopy_search.dashboards.study.model import TrialData
from canopy_search.storage.study.predictions import Predictions, ValidationSet
from tests.dashboards.summaries import study, trial


def curve(number: int, state: str, *aps: float) -> TrialData:
    metrics = [{"epoch": e, "val_ap": ap} for e, ap in enumerate(aps, start=1)]
    params = {"backbone": "tinycnn_16", "gamma": 0.9 + number / 100}
    return trial(number, state, metrics=metrics, val_ap=aps[-1] if aps else None, params=params)


def traces(figure: go.Figure) -> dict[str, Any]:
    document = json.loads(json.dumps(figure.to_plotly_json(), allow_nan=False))
    layout = document["layout"]
    assert layout["title"]["text"]
    assert layout["xaxis"]["title"]["text"]
    assert layout["yaxis"]["title"]["text"]
    assert "bdata" not in json.dumps(document), "older Plotlys read lists alone"
    return {trace.get("name", str(index)): trace for index, trace in enumerate(document["data"])}


TRIALS = [
    curve(0, "COMPLETE", 0.2, 0.5),
    curve(1, "PRUNED", 0.9),
    curve(2, "COMPLETE", 0.1, 0.4),
    curve(3, "COMPLETE", 0.3, 0.6),
    curve(4, "PAUSED", 0.2),
    curve(5, "RUNNING"),
]


def test_ap_over_trials_by_state_and_the_best_so_far() -> None:
    shown = traces(ap_over_trials(study(TRIALS, [])))
    assert shown["complete"]["x"] == [0, 2, 3]
    assert shown["complete"]["y"] == [0.5, 0.4, 0.6]
    assert shown["pruned"]["x"] == [1]
    assert shown["paused"]["x"] == [4]
    # A pruned trial's AP is not final, and a later one that is worse changes nothing.
    assert (shown["best so far"]["x"], shown["best so far"]["y"]) == ([0, 3], [0.5, 0.6])
    assert len({trace["marker"]["symbol"] for n, trace in shown.items() if "so far" not in n}) == 3
    assert "gamma 0.93" in shown["complete"]["text"][2]


def test_learning_curves_show_the_finalists_last_and_by_name() -> None:
    figure = learning_curves(study(TRIALS, []), finalists=2)
    traces(figure)
    names = [trace.name for trace in figure.data if trace.showlegend]
    assert names[0] == "other trials"
    assert [name.partition(":")[0] for name in names[1:]] == ["trial 3", "trial 0"]
    assert list(figure.data[-1].y) == [0.2, 0.5]
    assert len(figure.data) == 5, "a trial without an epoch has no curve"


def test_labels_by_their_ap_without_those_that_have_none() -> None:
    of = trial(3, "COMPLETE", metrics=[{"val_ap_per_label": {"a": 0.2, "b": None, "c": 0.9}}])
    [bars] = traces(label_ap(of)).values()
    assert (bars["x"], bars["y"]) == (["c", "a"], [0.9, 0.2])


def test_a_figure_of_nothing_is_a_figure() -> None:
    for figure in (ap_over_trials(study([], [])), learning_curves(study([], []))):
        assert traces(figure) == {}
    assert traces(label_ap(trial(0, "RUNNING")))["0"]["x"] == []


@pytest.fixture
def predictions() -> Predictions:
    dice = np.random.default_rng(0)
    targets = (dice.random((200, 4)) < [0.5, 0.2, 0.7, 0.0]).astype(np.uint8)
    logits = dice.normal(size=(200, 4)).astype(np.float32) + 2 * targets - 1
    return Predictions(ValidationSet("d", ("a", "b", "c", "none"), targets), logits)


def test_shares_of_labels_against_scikit_learn(predictions: Predictions) -> None:
    has, given = predictions.validation.targets, predictions.logits >= 0
    shares, together, images = confusion_shares(predictions)
    for row in range(3):
        for column in range(4):
            # The share of a row's images that are given a column's label is the recall of the
            # row's label by a model that would give it where it gives the column's.
            expected = recall_score(has[:, row], given[:, column])
            assert shares[row, column] == pytest.approx(expected)
            expected = recall_score(has[:, row], has[:, column])
            assert together[row, column] == pytest.approx(expected)
    assert np.isnan(shares[3]).all()
    assert images.tolist() == has.sum(axis=0).tolist()


def test_a_heat_map_says_what_each_cell_is(predictions: Predictions) -> None:
    [heat] = traces(label_confusion(predictions, trial(2, "COMPLETE"))).values()
    shares, together, images = confusion_shares(predictions)
    assert heat["z"][0][1] == pytest.approx(shares[0, 1], abs=5e-5)
    assert heat["z"][3] == [None] * 4
    assert heat["text"][0][1] == (
        f"of {images[0]} images with a {shares[0, 1]:.1%} get b; {together[0, 1]:.1%} have it"
    )
    assert heat["text"][3][0] == "no image has none"
