"""Where curves are heading, and how much better they ended."""

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from search.heading import heading, mean_gain

EPOCHS = 8


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


def test_how_much_complete_trials_gained_beyond() -> None:
    early, there = (0.1, 0.3, 0.4, 0.48), 0.48 + 0.6 * 0.18
    trials = [
        trial(*early),
        *(trial(*early, 0.5, 0.6, 0.65, there + gain) for gain in (0.03, 0.07)),
    ]
    assert mean_gain(trials, 4, EPOCHS) == pytest.approx(0.05)
    assert mean_gain(trials[:1], 4, EPOCHS) == 0.0
    assert mean_gain([], 4, EPOCHS) == 0.0
