from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.charts.progress import (
    best_so_far,
    over_time_sentence,
    over_trials_sentence,
    progress_charts,
    spent_s,
)
from tests.dashboards.studies import PRUNED, Epochs, data, trial

SCORES = [0.30, 0.25, 0.40, 0.40, 0.35]


def study(scores: list[float] = SCORES, **changes: object):
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
        trial(0, [0.1, 0.2], epochs=Epochs(begin_s=0)),
        trial(1, [0.1, 0.3], epochs=Epochs(begin_s=5, trained=[1])),
    ]
    assert spent_s(data(trials)) == {0: 30.0, 1: 30.0}
    assert spent_s(data(trials[:1])) == {0: 20.0}


def test_the_sentence_says_whether_the_search_has_levelled_off(words: SnapshotAssertion) -> None:
    rising = over_trials_sentence(study([0.1, 0.2]))
    short = over_trials_sentence(study())
    for number in ("5 trials", "trial 2", ".4000", "2 trials"):
        assert number in short
    long = over_trials_sentence(study([0.5] + [0.4] * 20))
    assert "20 trials" in long
    assert [rising, short, long] == words


def test_nothing_and_nothing_complete_is_said(words: SnapshotAssertion) -> None:
    nothing, none_complete = data([]), data([trial(0, [0.3], PRUNED)])
    assert [over_trials_sentence(nothing), over_trials_sentence(none_complete)] == words


def test_the_sentence_says_when_the_best_was_there(words: SnapshotAssertion) -> None:
    says = over_time_sentence(study(), spent_s(study()))
    for number in ("1 min 40 s", "1 min 00 s (60 %)", "20 s", ".1000"):
        assert number in says
    assert says == words


def test_figures_hold_every_trial_and_what_was_best() -> None:
    charts = progress_charts(study())
    assert [chart.key for chart in charts] == ["over-trials", "over-time"]
    for chart in charts:
        (figure,) = chart.figures
        points, best = figure.data
        assert sorted(points.y) == sorted(SCORES)
        assert list(best.y) == [0.30, 0.40, 0.40]
