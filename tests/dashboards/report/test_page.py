"""The whole page, for every kind of study."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from canopy_search.dashboards.html.page import Page
from canopy_search.dashboards.report.page import report_html, report_page, trials_table
from canopy_search.dashboards.study.model import StudyData
from tests.dashboards.simulated_predictions import SimulatedData
from tests.dashboards.studies import (
    COMPLETE,
    FAILED,
    PRUNED,
    RUNNING,
    Epochs,
    data,
    searched,
    setting,
    trial,
)

EVIL = "<img src=x onerror=alert(1)>"


def predicted(study: StudyData) -> StudyData:
    """Gives the best two trials and the baseline predictions of two labels."""
    models = SimulatedData(0, frequencies=(0.5, 0.2))
    chosen = [t.number for t in (study.best, study.runner_up, study.baseline) if t is not None]
    return replace(study, predictions={number: models.model() for number in chosen})


def plain() -> StudyData:
    """A study of plain Optuna: no recorded epochs, no record, a loss to minimise."""
    space = {
        "rate [1/s]": FloatDistribution(1e-3, 1.0, log=True),
        "kind": CategoricalDistribution([EVIL, "b"]),
    }
    trials = [
        replace(
            trial(n, state=COMPLETE, params={"rate [1/s]": 0.01 * (n + 1), "kind": EVIL}, value=v),
            curve=((0, 2.0), (2, v)),
        )
        for n, v in enumerate([3.5, 1.25, 2.0, 4.0, 5.0, 6.0])
    ]
    return data(trials, record=None, distributions=space, metric="loss", higher_is_better=False)


def hostile() -> StudyData:
    """Names from users that would be markup if they were not escaped."""
    params = setting(EVIL, EVIL)
    label = {EVIL: [0.3] * 8, "</script>": [0.4] * 8}
    space = {
        "backbone": CategoricalDistribution([EVIL]),
        "loss": CategoricalDistribution([EVIL]),
        "gamma": FloatDistribution(0.8, 1.0),
    }
    trials = [
        trial(
            n,
            [0.3 + n / 100] * 8,
            epochs=Epochs(per_label=label),
            params={**params, "gamma": 0.8 + n / 100},
        )
        for n in range(3)
    ]
    trials.append(trial(3, [0.1], FAILED, params, reason=EVIL))
    return data(trials, distributions=space)


STUDIES: dict[str, Callable[[], StudyData]] = {
    "empty": lambda: data([], distributions={}),
    "nothing reported": lambda: data([trial(0, state=RUNNING)]),
    "one trial": lambda: data([trial(0, [0.3] * 8)]),
    "running": lambda: data([trial(0, [0.3] * 8), trial(1, [0.1, 0.2], RUNNING)]),
    "all pruned": lambda: data([trial(n, [0.3], PRUNED) for n in range(12)]),
    "all failed": lambda: data([trial(n, state=FAILED, reason="no") for n in range(3)]),
    "searched": lambda: predicted(searched(40)),
    "predictions missing": lambda: searched(40),
    "plain Optuna": plain,
    "hostile names": lambda: predicted(hostile()),
}


@pytest.fixture(params=STUDIES)
def page(request: pytest.FixtureRequest) -> Page:
    return report_page(STUDIES[request.param]())


def test_every_study_has_a_page_whose_figures_hold_data(page: Page) -> None:
    assert page.title
    keys = [chart.key for section in page.sections for chart in section.charts]
    assert len(set(keys)) == len(keys)
    for section in page.sections:
        for chart in section.charts:
            assert chart.sentence.endswith(".")
            for figure in chart.figures:
                values = [
                    [v for v in (trace.z if trace.type == "heatmap" else trace.y) if v is not None]
                    for trace in figure.data
                ]
                assert any(values), chart.key


def test_a_searched_study_shows_everything() -> None:
    keys = [
        chart.key
        for section in report_page(predicted(searched(40))).sections
        for chart in section.charts
    ]
    assert keys == [
        "over-trials",
        "over-time",
        "curves",
        "cost",
        "space-0",
        "parallel",
        "importance",
        "labels",
        "confusion",
        "stage-tree",
        "timeline",
    ]


def test_names_are_nowhere_markup() -> None:
    written = report_html(hostile())
    assert EVIL not in written
    figures = re.findall(r'<script type="application/json">(.*?)</script>', written, re.S)
    assert figures
    for figure in figures:
        text = json.dumps(json.loads(figure), ensure_ascii=False)
        assert "<img" not in text  # which Plotly would read as markup of its own


def test_numbers_that_are_missing_sort_last() -> None:
    table = trials_table(data([trial(0, [0.3]), trial(1, state=RUNNING)]))
    names = [column.name for column in table.columns]
    first, second = (dict(zip(names, row, strict=True)) for row in table.rows)
    assert (first["AP"].text, first["AP"].value) == (".3000", 0.3)
    assert (second["AP"].text, second["AP"].value) == ("–", None)


def test_the_table_names_why_trials_ended() -> None:
    table = trials_table(data([trial(0, [0.3]), trial(1, state=FAILED, reason="no memory")]))
    assert [row[-1].text for row in table.rows] == ["", "no memory"]
    assert table.columns[-1].name == "reason"
    assert trials_table(data([trial(0, [0.3])])).columns[-1].name == "state"


@pytest.mark.parametrize(
    ("trials", "most_mb"), [(150, 2.4), pytest.param(1000, 4.0, marks=pytest.mark.exhaustive)]
)
def test_many_trials_fit(trials: int, most_mb: float) -> None:
    written = report_html(predicted(searched(trials)))
    assert len(written.encode()) < most_mb * 1e6
    assert written.count('<th scope="row"') == trials
