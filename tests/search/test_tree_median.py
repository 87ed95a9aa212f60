import random

import optuna
import pytest
from optuna.pruners import MedianPruner
from optuna.trial import TrialState, create_trial

from search.tree_median import TreeMedianPruner
from search.trials import STAGES_ATTR


def complete(values: list[float], stages: list[str] | None = None) -> optuna.trial.FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE,
        value=values[-1],
        intermediate_values=dict(enumerate(values, start=1)),
        system_attrs={STAGES_ATTR: stages} if stages else {},
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"n_startup_trials": 0},
        {"n_startup_trials": 2, "n_warmup_steps": 3},
        {"n_startup_trials": 1, "interval_steps": 2},
        {"n_startup_trials": 1, "n_warmup_steps": 1, "interval_steps": 3, "n_min_trials": 4},
    ],
)
def test_without_shared_epochs_it_decides_as_optuna_does(parameters: dict[str, int]) -> None:
    generator = random.Random(str(parameters))
    decisions = 0
    for _ in range(40):
        study = optuna.create_study(direction="maximize")
        for _ in range(generator.randrange(8)):
            epochs = generator.randint(1, 8)
            study.add_trial(complete([generator.random() for _ in range(epochs)]))
        trial = study.ask()
        for epoch in range(1, 9):
            trial.report(generator.random(), epoch)
            frozen = study.get_trials()[-1]
            expected = MedianPruner(**parameters).prune(study, frozen)
            assert TreeMedianPruner(**parameters).prune(study, frozen) == expected
            decisions += expected
    assert decisions > 10


def test_a_branch_that_many_trials_share_counts_once() -> None:
    study = optuna.create_study(direction="maximize")
    for _ in range(4):
        study.add_trial(complete([0.9], ["liked"]))
    study.add_trial(complete([0.2], ["a"]))
    study.add_trial(complete([0.3], ["b"]))
    trial = study.ask()
    trial.report(0.5, 1)
    frozen = study.get_trials()[-1]

    assert MedianPruner(n_startup_trials=0).prune(study, frozen)
    assert not TreeMedianPruner(n_startup_trials=0).prune(study, frozen)
    assert not TreeMedianPruner(n_startup_trials=0, n_min_trials=4).prune(study, frozen)


def test_it_waits_for_complete_trials_however_much_they_share() -> None:
    study = optuna.create_study(direction="maximize")
    for _ in range(4):
        study.add_trial(complete([0.9], ["liked"]))
    trial = study.ask()
    trial.report(0.5, 1)
    assert not TreeMedianPruner(n_startup_trials=5).prune(study, study.get_trials()[-1])
    assert TreeMedianPruner(n_startup_trials=4).prune(study, study.get_trials()[-1])


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_startup_trials": -1},
        {"n_warmup_steps": -1},
        {"interval_steps": 0},
        {"n_min_trials": 0},
    ],
)
def test_numbers_out_of_range(parameters: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(parameters))} is .*; expected at least"):
        TreeMedianPruner(**parameters)
