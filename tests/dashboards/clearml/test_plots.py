"""Canopy's charts as ClearML shows them: alone, with a title, in any version of Plotly."""

import json
from typing import Any

from canopy_search.dashboards.charts.confusion import confusion
from canopy_search.dashboards.clearml.desired_state import Plot
from canopy_search.dashboards.clearml.links import Pages
from canopy_search.dashboards.clearml.plots import confusion_plots, label_plots, study_plots
from tests.dashboards.report.test_page import predicted
from tests.dashboards.studies import Epochs, data, searched, trial

CHARTS = ("AP over trials", "Learning curves", "AP per label")


def shown(plots: list[Plot]) -> dict[str, dict[str, Any]]:
    """Returns key → figure, whose numbers are lists, which old versions of Plotly read too."""
    assert len({plot.key for plot in plots}) == len(plots)
    assert not [plot.key for plot in plots if "bdata" in plot.figure or "NaN" in plot.figure]
    return {plot.key: json.loads(plot.figure) for plot in plots}


def test_a_study_has_canopys_charts_with_a_title_and_a_legend() -> None:
    study = searched(40)
    figures = shown(study_plots(study, Pages()))
    for key, figure in figures.items():
        if key.startswith(CHARTS):
            assert figure["layout"]["title"]["text"].startswith("<b>"), key
            assert figure["layout"]["xaxis"]["title"]["text"], key
    over_trials = figures["AP over trials/study"]
    assert "resnet18" in over_trials["layout"]["title"]["text"], "its legend"
    markers = [each for each in over_trials["data"] if each["mode"] == "markers"]
    assert sum(len(each["x"]) for each in markers) == 40
    # A pruned trial is hollow, since its AP is not final.
    hollow = [symbol.endswith("-open") for each in markers for symbol in each["marker"]["symbol"]]
    assert sum(hollow) == sum(not each.is_complete for each in study.trials)
    assert "AP per label/best trial" in figures


def test_a_study_without_a_report_has_figures_of_nothing() -> None:
    assert shown(study_plots(data([]), Pages())) == {}
    assert shown(study_plots(data([trial(0)]), Pages())) == {}


def test_labels_by_their_ap_and_those_that_have_none_in_the_table_alone() -> None:
    scored = trial(
        3, [0.5], epochs=Epochs(per_label={"a": [0.2], "b": [None], "c": [0.9], "<d>": [0.4]})
    )
    figures = shown(label_plots(scored))
    (dots,) = figures["AP per label/bars"]["data"]
    assert (dots["y"], dots["x"]) == (["c", "&lt;d&gt;", "a"], [0.9, 0.4, 0.2])
    (table,) = figures["AP per label/table"]["data"]
    assert table["cells"]["values"] == [
        ["a", "b", "c", "<d>"],
        [".2000", "–", ".9000", ".4000"],
    ]
    assert label_plots(trial(0)) == []


def test_a_heat_map_is_that_of_the_report() -> None:
    study = predicted(searched(40))
    best = study.best
    assert best is not None
    predictions = study.predictions[best.number]
    figure = shown(confusion_plots(predictions, best))["Labels given/confusion"]
    assert f"trial {best.number}" in figure["layout"]["title"]["text"]
    (heat,) = figure["data"]
    found = confusion(predictions)
    assert heat["z"][1][0] == 100 * float(found.wrong[1, 0])
    assert heat["z"][0][0] is None
