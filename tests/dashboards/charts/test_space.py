import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.charts.space import (
    parallel_figure,
    parallel_sentence,
    slice_figures,
    slice_sentence,
    space_charts,
)
from canopy_search.dashboards.study.model import StudyData
from tests.dashboards.studies import PRUNED, data, searched, setting, trial


def rising(count: int = 10, sign: float = 1.0) -> StudyData:
    """The higher gamma, the better, or the worse."""
    return data(
        [
            trial(n, [0.3 + sign * 0.01 * n], params=setting(gamma=0.80 + 0.02 * n))
            for n in range(count)
        ]
    )


@pytest.mark.parametrize(
    ("sign", "where", "trend"),
    [(1, "gamma from 0.9 to 0.98", "(+1.00)"), (-1, "gamma from 0.8 to 0.88", "(−1.00)")],
    ids=["rising", "falling"],
)
def test_the_sentence_says_where_good_trials_lie(
    sign: int, where: str, trend: str, words: SnapshotAssertion
) -> None:
    says = slice_sentence(rising(sign=sign), "gamma")
    assert where in says
    assert trend in says
    assert says == words


def test_few_complete_trials_say_nothing_and_pruned_ones_are_explained(
    words: SnapshotAssertion,
) -> None:
    study = data([trial(0, [0.3]), trial(1, [0.2], PRUNED), trial(2, [0.2], PRUNED)])
    says = slice_sentence(study, "gamma")
    assert "2 trials" in says
    assert says == words


def test_each_loss_has_a_panel_with_the_same_axes() -> None:
    study = searched(30)
    panels = slice_figures(study, "gamma")
    assert [panel.layout.title.text for panel in panels] == ["bce", "focal_bce"]
    assert len({panel.layout.yaxis.range for panel in panels}) == 1
    assert len({panel.layout.xaxis.range for panel in panels}) == 1
    assert sum(len(trace.x) for panel in panels for trace in panel.data) == 30


def test_parameters_of_any_kind_are_axes() -> None:
    space = {"rate": FloatDistribution(1e-4, 1e-1, log=True), "width": IntDistribution(1, 9)}
    trials = [
        trial(n, [0.1 * n + 0.1], params={"rate": 10.0 ** (n - 4), "width": 2 * n + 1})
        for n in range(4)
    ]
    study = data(trials, distributions=space)
    drawn = parallel_figure(study)
    lines = [trace for trace in drawn.data if trace.mode == "lines"]
    assert sum(y is None for trace in lines for y in trace.y) == 4
    best = lines[-1]
    assert list(best.y) == [1.0, 1.0, 1.0, None]
    # A logarithmic axis puts 1e-3 at a third.
    assert list(lines[0].y[:3]) == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    (panel,) = slice_figures(study, "rate")
    assert panel.layout.xaxis.type == "log"


def test_what_the_best_have_in_common_is_said(words: SnapshotAssertion) -> None:
    study = data(
        [
            trial(n, [0.1 * n], params=setting("resnet18" if n > 7 else "tinycnn_8", loss))
            for n, loss in enumerate(["bce", "focal_bce"] * 5)
        ]
    )
    assert "backbone resnet18" in parallel_sentence(study)
    assert [parallel_sentence(study), parallel_sentence(searched(6))] == words


def test_one_trial_is_no_space() -> None:
    study = data([trial(0, [0.3])])
    assert [chart.key for chart in space_charts(study)] == ["space-0"]
    assert space_charts(data([])) == []
