from dashboards.charts.house import marks_of
from dashboards.charts.progress import (
    best_so_far,
    over_time_sentence,
    over_trials_sentence,
    progress_charts,
    spent_s,
)
from tests.dashboards.studies import PRUNED, data, trial

SCORES = [0.30, 0.25, 0.40, 0.40, 0.35]


def study(scores: list[float] = SCORES, **changes: object):  # type: ignore[no-untyped-def]
    return data([trial(n, [0.1, score]) for n, score in enumerate(scores)], **changes)


def test_the_best_so_far_only_rises_and_the_first_of_equals_stays() -> None:
    assert [t.number for t in best_so_far(study(), study().trials)] == [0, 2]
    fewer = study(higher_is_better=False)
    assert [t.number for t in best_so_far(fewer, fewer.trials)] == [0, 1]


def test_a_pruned_trial_is_never_the_best() -> None:
    pruned = data([trial(0, [0.3, 0.4]), trial(1, [0.9], PRUNED)])
    assert [t.number for t in best_so_far(pruned, pruned.trials)] == [0]


def test_time_is_what_was_trained_in_the_order_in_which_it_was_recorded() -> None:
    # Trial 0 trains epochs of 10 s that end at 10 and 20 s, trial 1 one that ends at 15 s and
    # replays its second one.
    trials = [
        trial(0, [0.1, 0.2], begin_s=0),
        trial(1, [0.1, 0.3], begin_s=5, trained=[1]),
    ]
    assert spent_s(data(trials)) == {0: 30.0, 1: 30.0}
    assert spent_s(data(trials[:1])) == {0: 20.0}


def test_the_sentence_says_whether_the_search_has_levelled_off() -> None:
    assert over_trials_sentence(study([0.1, 0.2])).endswith("may well find something better.")
    short = over_trials_sentence(study())
    assert "The best of 5 trials is trial 2, with .4000; the 2 trials after it" in short
    assert "too few to say that it has levelled off" in short
    long = over_trials_sentence(study([0.5] + [0.4] * 20))
    assert "the 20 trials after it were no better" in long
    assert "suggests that the search has levelled off" in long


def test_nothing_and_nothing_complete_is_said() -> None:
    assert over_trials_sentence(data([])) == "No trial has reported anything yet."
    assert "none is complete" in over_trials_sentence(data([trial(0, [0.3], PRUNED)]))


def test_the_sentence_says_when_the_best_was_there() -> None:
    says = over_time_sentence(study(), spent_s(study()))
    assert "All training took 1 min 40 s; the best trial was there after 1 min 00 s (60 %)" in says
    assert "the first complete one, after 20 s, was .1000 behind it" in says


def test_figures_hold_every_trial_and_what_was_best() -> None:
    charts = progress_charts(study(), marks_of(study()))
    assert [chart.key for chart in charts] == ["over-trials", "over-time"]
    for chart in charts:
        (figure,) = chart.figures
        points, best = figure.data
        assert sorted(points.y) == sorted(SCORES)
        assert list(best.y) == [0.30, 0.40, 0.40]
