"""PED-ANOVA on studies in which it is known what matters."""

from optuna.distributions import IntDistribution
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.charts.importance import (
    FEWEST,
    importance_charts,
    importances,
    sentence,
)
from tests.dashboards.studies import PRUNED, SPACE, data, searched, trial


def test_what_decides_is_found_and_what_does_not_is_left_to_chance(
    words: SnapshotAssertion,
) -> None:
    found = importances(searched(180))
    assert found is not None
    assert found.epoch is None
    assert found.clear == ["backbone"]
    assert abs(sum(found.shares.values()) - 1) < 1e-9
    says = sentence(searched(180), found)
    assert "backbone" in says.partition(";")[0]
    assert says == words


def test_where_nothing_decides_nothing_is_claimed() -> None:
    # The scores are shuffled among the trials, so that they belong to no setting.
    study = searched(180)
    complete = [t for t in study.trials if t.is_complete]
    curves = [t.curve for t in complete]
    scores = [[score for _, score in curve] for curve in curves]
    turned = scores[7:] + scores[:7]
    shuffled = data(
        [trial(t.number, s, params=t.params) for t, s in zip(complete, turned, strict=True)]
    )
    found = importances(shuffled)
    assert found is not None
    assert found.clear == []
    assert "should not be relied on" in sentence(shuffled, found)


def test_few_complete_trials_are_compared_after_an_earlier_epoch() -> None:
    study = searched(24)  # eight complete, eight more reached the fourth epoch
    found = importances(study)
    assert found is not None
    assert found.epoch == 4
    assert found.settings >= FEWEST
    assert "take it as a hint" in sentence(study, found)


def test_after_the_first_epoch_gamma_cannot_be_judged() -> None:
    study = searched(40)
    space = {**SPACE, "width": IntDistribution(1, 40)}
    first = data(
        [
            trial(t.number, [t.curve[0][1]], PRUNED, {**t.params, "width": t.number + 1})
            for t in study.trials
        ],
        distributions=space,
    )
    found = importances(first)
    assert found is not None
    assert (found.epoch, found.skipped) == (1, ["gamma"])
    assert "gamma" not in found.shares
    assert "gamma cannot be judged" in sentence(first, found)
    # What differs in gamma alone is one and the same epoch, and counts once.
    same = data([trial(t.number, [0.1], PRUNED, t.params) for t in study.trials])
    assert importances(same) is None


def test_too_few_settings_are_said_to_be_too_few() -> None:
    study = searched(6)
    assert importances(study) is None
    (chart,) = importance_charts(study)
    assert chart.figures == []
    assert f"at least {FEWEST}" in chart.sentence


def test_a_setting_that_was_tried_again_counts_once() -> None:
    again = data([trial(n, [0.1] * 8) for n in range(60)])
    assert importances(again) is None
