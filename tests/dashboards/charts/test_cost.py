from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.charts.cost import cost_charts, figure, pareto_front, sentence
from canopy_search.dashboards.study.model import StudyData
from tests.dashboards.studies import PRUNED, Epochs, data, trial


def study(*pairs: tuple[float, float], **changes: bool) -> StudyData:
    """Trials of two epochs, each given as seconds an epoch and its score."""
    trials = [
        trial(n, [0.1, score], epochs=Epochs(epoch_s=epoch_s))
        for n, (epoch_s, score) in enumerate(pairs)
    ]
    return data(trials, **changes)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    found = study((10, 0.5), (20, 0.4), (30, 0.6), (30, 0.55), (5, 0.2), (40, 0.6))
    assert [t.number for t in pareto_front(found)] == [4, 0, 2]
    lower = study((10, 0.5), (20, 0.4), (30, 0.6), higher_is_better=False)
    assert [t.number for t in pareto_front(lower)] == [0, 1]


def test_pruned_trials_are_not_on_the_front() -> None:
    found = data([trial(0, [0.1, 0.3]), trial(1, [0.9], PRUNED)])
    assert [t.number for t in pareto_front(found)] == [0]


def test_the_sentence_weighs_the_best_against_the_fastest(words: SnapshotAssertion) -> None:
    says = sentence(study((10, 0.5), (30, 0.6), (40, 0.55)))
    for number in ("2 settings", "1 min 00 s", "20 s", "3.0 times", ".1000"):
        assert number in says
    assert says == words


def test_a_best_that_is_the_fastest_too_is_said_to_be(words: SnapshotAssertion) -> None:
    both = [sentence(study((5, 0.5), (6, 0.4))), sentence(study((5, 0.5)))]
    assert all("10 s" in says for says in both)
    assert both == words


def test_a_figure_needs_a_complete_trial() -> None:
    nothing = data([trial(0, [0.1], PRUNED)])
    assert cost_charts(nothing) == []


def test_far_apart_times_are_drawn_on_a_logarithmic_axis() -> None:
    near, far = study((5, 0.5), (50, 0.6)), study((5, 0.5), (500, 0.6))
    assert figure(near).layout.xaxis.type is None
    assert figure(far).layout.xaxis.type == "log"
    assert list(figure(near).data[0].x) == [10, 100]
