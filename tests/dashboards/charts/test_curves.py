from dashboards.charts.curves import curves_charts, figure, sentence
from dashboards.charts.house import marks_of
from tests.dashboards.studies import PAUSED, PRUNED, data, searched, trial

RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
LEVEL = [0.1, 0.5, 0.6, 0.64, 0.66, 0.67, 0.675, 0.677]
FALLING = [0.1, 0.5, 0.6, 0.64, 0.66, 0.67, 0.60, 0.55]


def test_the_sentence_counts_what_was_stopped_where() -> None:
    study = data(
        [
            trial(0, LEVEL),
            trial(1, [0.1], PRUNED),
            trial(2, [0.1], PAUSED),
            trial(3, LEVEL[:4], PRUNED),
        ]
    )
    says = sentence(study)
    assert (
        "1 of 4 trials ran to their end; stopped were 2 after epoch 1 and 1 after epoch 4" in says
    )
    assert "left out 56 % of all epochs" in says  # 14 of 32 were reported


def test_the_sentence_says_whether_the_best_was_still_learning() -> None:
    assert "still gained .1000 in its last epoch: more epochs may help" in sentence(
        data([trial(0, RISING)])
    )
    assert "nearly stopped improving" in sentence(data([trial(0, LEVEL)]))
    assert "better after epoch 6 (.6700) than at its end" in sentence(data([trial(0, FALLING)]))


def test_every_curve_is_drawn_once() -> None:
    study = searched(30)
    drawn = figure(study, marks_of(study))
    lines = [trace for trace in drawn.data if "lines" in trace.mode]
    points = sum(sum(y is not None for y in trace.y) for trace in lines)
    assert points == sum(len(each.curve) for each in study.trials)
    crosses = next(trace for trace in drawn.data if trace.name == "pruned or paused here")
    assert len(crosses.x) == sum(each.ended_early for each in study.trials) == 20


def test_without_a_report_there_is_nothing_to_draw() -> None:
    assert curves_charts(data([trial(0)]), marks_of(data([]))) == []
