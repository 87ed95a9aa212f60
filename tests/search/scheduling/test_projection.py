"""Where curves are heading, and how much better they ended."""

from itertools import count

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.scheduling.projection import Outlook, heading
from canopy_search.storage.study.trial_attributes import STAGES_ATTR

EPOCHS = 8
NUMBERS = count()


def trial(*aps: float) -> FrozenTrial:
    is_complete = len(aps) == EPOCHS
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE if is_complete else TrialState.RUNNING,
        value=aps[-1] if is_complete else None,
        intermediate_values=dict(enumerate(aps, start=1)),
    )


@pytest.mark.parametrize(
    ("aps", "expected"),
    [
        ((0.4, 0.50, 0.51, 0.51), 0.51 + 0.6 * 0.01),
        ((0.1, 0.30, 0.40, 0.48), 0.48 + 0.6 * 0.18),
        ((0.1, 0.30), 0.30 + (0.6 + 0.36) * 0.2),
        ((0.1, 0.30, 0.20, 0.10), 0.30),  # what it was at its best
        ((0.3,), 0.3),  # nothing is known of its gains
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.5), 0.5),  # it has ended
    ],
)
def test_each_doubling_gains_a_share_of_the_one_before(
    aps: tuple[float, ...], expected: float
) -> None:
    assert heading(trial(*aps).intermediate_values, EPOCHS) == pytest.approx(expected)


def run(gamma: float, *aps: float) -> FrozenTrial:
    made = trial(*aps)
    made.distributions = {"gamma": FloatDistribution(0.8, 1.0, step=0.05)}
    made.params = {"gamma": gamma}
    made.number = next(NUMBERS)
    made.system_attrs = {STAGES_ATTR: ["first", *(f"{gamma} {at}" for at in range(1, EPOCHS))]}
    return made


HALF = (0.3, 0.4, 0.45, 0.5)
HEADING = 0.5 + 0.6 * 0.1


def complete(gamma: float, final: float) -> FrozenTrial:
    return run(gamma, *HALF, 0.5, 0.5, 0.5, final)


class TestOutlook:
    def test_is_where_a_curve_is_heading_while_fewer_than_two_are_complete(self) -> None:
        paused = run(0.8, *HALF)
        assert Outlook([paused, complete(1.0, 0.9)], EPOCHS)(paused) == pytest.approx(HEADING)

    def test_of_a_complete_trial_is_its_ap(self) -> None:
        trials = [complete(0.8, 0.6), complete(1.0, 0.7)]
        assert [Outlook(trials, EPOCHS)(each) for each in trials] == [0.6, 0.7]

    def test_grows_with_the_mean_of_what_complete_ones_gained_beyond(self) -> None:
        trials = [complete(0.9, HEADING + gain) for gain in (0.03, 0.07)]
        paused = run(0.9, *HALF)
        assert Outlook([*trials, paused], EPOCHS)(paused) == pytest.approx(HEADING + 0.05)

    def test_grows_with_a_late_number_as_complete_ones_did(self) -> None:
        trials = [complete(0.8, HEADING), complete(0.9, HEADING + 0.04)]
        low, high = run(0.8, *HALF), run(1.0, *HALF)
        outlook = Outlook([*trials, low, high], EPOCHS)
        assert outlook.late == ["gamma"]
        # places 0 and .5, gains 0 and .04
        slope = 2 * 0.25 * 0.02 / (2 * 0.25**2 + 0.05)
        assert outlook(high) - outlook(low) == pytest.approx(slope)

    def test_a_number_that_acts_at_once_says_nothing_of_what_is_to_come(self) -> None:
        trials = [complete(0.8, HEADING), complete(0.9, HEADING + 0.04)]
        for each in trials:
            each.system_attrs = {STAGES_ATTR: [f"{each.number} {at}" for at in range(EPOCHS)]}
        assert Outlook(trials, EPOCHS).late == []
