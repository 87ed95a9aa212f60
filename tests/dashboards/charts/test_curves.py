from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.charts.curves import curves_charts, figure, sentence
from tests.dashboards.studies import PAUSED, PRUNED, data, searched, trial

RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
LEVEL = [0.1, 0.5, 0.6, 0.64, 0.66, 0.67, 0.675, 0.677]
FALLING = [0.1, 0.5, 0.6, 0.64, 0.66, 0.67, 0.60, 0.55]


def test_the_sentence_counts_what_was_stopped_where(words: SnapshotAssertion) -> None:
    study = data(
        [
            trial(0, LEVEL),
            trial(1, [0.1], PRUNED),
            trial(2, [0.1], PAUSED),
            trial(3, LEVEL[:4], PRUNED),
        ]
    )
    says = sentence(study)
    for number in ("1 of 4", "2 after epoch 1", "1 after epoch 4"):
        assert number in says
    assert "56 %" in says  # 14 of 32 were reported
    assert says == words


def test_the_sentence_says_whether_the_best_was_still_learning(words: SnapshotAssertion) -> None:
    rising, level, falling = (sentence(data([trial(0, c)])) for c in (RISING, LEVEL, FALLING))
    assert ".1000" in rising
    assert "epoch 6 (.6700)" in falling
    assert [rising, level, falling] == words


def test_every_curve_is_drawn_once() -> None:
    study = searched(30)
    drawn = figure(study)
    lines = [trace for trace in drawn.data if "lines" in trace.mode]
    points = sum(sum(y is not None for y in trace.y) for trace in lines)
    assert points == sum(len(each.curve) for each in study.trials)
    crosses = next(trace for trace in drawn.data if trace.name == "pruned or paused here")
    assert len(crosses.x) == sum(each.ended_early for each in study.trials) == 20


def test_without_a_report_there_is_nothing_to_draw() -> None:
    assert curves_charts(data([trial(0)])) == []
