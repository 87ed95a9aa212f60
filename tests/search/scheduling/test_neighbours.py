"""The number that tells most beside a good one, for each kind of range."""

from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.scheduling.neighbours import (
    differing,
    distance,
    most_informative_number,
    nearest,
    numbers,
)

GAMMA = FloatDistribution(0.8, 1.0, step=0.01)
RATE = FloatDistribution(1e-5, 1e-1, log=True)
DEPTH = IntDistribution(1, 9)


def trial(number: int, distributions: dict[str, BaseDistribution], **params: Any) -> FrozenTrial:
    found = optuna.trial.create_trial(
        state=TrialState.RUNNING, params=params, distributions=distributions
    )
    found.number = number
    return found


@pytest.mark.parametrize(
    ("domain", "best", "known", "wanted"),
    [
        # Nothing is known on either side: the middle of the larger gap, the end being part of it.
        (GAMMA, 0.9, [], 0.95),
        (GAMMA, 0.93, [], 0.86),
        # Something is known on one side: the end of the other one.
        (GAMMA, 0.93, [0.86], 1.0),
        (GAMMA, 0.86, [0.93], 0.8),
        # On both sides: the middle of the larger gap, towards the best one.
        (GAMMA, 0.93, [0.8, 0.9, 1.0], 0.96),
        (GAMMA, 0.93, [0.88, 0.96], 0.91),
        # At the end of the range.
        (GAMMA, 1.0, [0.9, 0.93], 0.97),
        (GAMMA, 1.0, [0.99], None),
        (GAMMA, 0.9, [0.89, 0.91], None),
        (DEPTH, 4, [1, 9], 6),
        (DEPTH, 4, [3, 6], 5),
        (RATE, 1e-3, [1e-5, 1e-1], 1e-2),
    ],
)
def test_the_wanted_number(
    domain: BaseDistribution, best: float, known: list[float], wanted: float | None
) -> None:
    space = {"x": domain}
    others = [trial(at, space, x=value) for at, value in enumerate(known, start=1)]
    found = most_informative_number(trial(0, space, x=best), others, "x")
    if wanted is None:
        assert found is None
    else:
        assert found == pytest.approx(wanted)
        assert type(found) is type(wanted)
        assert domain._contains(found), "Optuna takes it"


def test_only_what_differs_in_this_number_alone_is_beside() -> None:
    space = {"gamma": GAMMA, "lr": RATE}
    best = trial(0, space, gamma=0.8 + 3 * 0.01, lr=0.01)
    same, other = trial(1, space, gamma=0.83, lr=0.01), trial(2, space, gamma=0.9, lr=0.02)
    assert differing(best, same) == set(), "0.8 + 3 · 0.01 is not quite 0.83"
    assert differing(best, other) == {"gamma", "lr"}
    assert most_informative_number(best, [other], "gamma") == most_informative_number(
        best, [], "gamma"
    )
    assert numbers(best) == ["gamma", "lr"]
    assert distance(best, other, ["gamma"]) == pytest.approx(0.07 / 0.2)


def test_a_trial_is_near_enough_within_a_third_of_the_way() -> None:
    space = {"gamma": GAMMA}
    best = trial(0, space, gamma=0.9)
    twins = [trial(at, space, gamma=value) for at, value in enumerate((0.84, 0.96, 0.99), start=1)]
    assert nearest(twins, best, "gamma", 0.97) is twins[1]
    assert nearest(twins[1:2], best, "gamma", 0.99) is twins[1]
    assert nearest(twins[:1], best, "gamma", 0.97) is None
    assert nearest([], best, "gamma", 0.97) is None
