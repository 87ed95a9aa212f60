import random
import statistics

import optuna
import pytest
from optuna.pruners import MedianPruner
from optuna.trial import FrozenTrial, TrialState, create_trial

from canopy_search.search.scheduling.median import TreeMedianPruner
from canopy_search.storage.study.trial_attributes import STAGES_ATTR


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


def test_what_it_remembers_of_a_study_changes_no_decision() -> None:
    """One pruner follows two studies in turns, whose trials end in any order and share stages."""
    generator = random.Random(5)
    remembers = TreeMedianPruner(n_startup_trials=1)
    studies = [optuna.create_study(direction="maximize") for _ in range(2)]
    running: list[list[optuna.trial.Trial]] = [[], []]
    decisions = []
    for turn in range(150):
        study, trials = studies[turn // 5 % 2], running[turn // 5 % 2]
        if len(trials) < 4:
            trials.append(study.ask())
        trial = trials.pop(generator.randrange(len(trials)))
        stages = [generator.choice("abcdef") for _ in range(3)]
        study._storage.set_trial_system_attr(trial._trial_id, STAGES_ATTR, stages)
        for epoch in range(1, 4):
            # Where a stage was trained twice its AP may differ; that of the last trial counts.
            trial.report(generator.random(), epoch)
            frozen = study.get_trials(deepcopy=generator.random() < 0.5)[trial.number]
            fresh = TreeMedianPruner(n_startup_trials=1).prune(study, frozen)
            assert remembers.prune(study, frozen) == fresh == by_the_rule(study, frozen)
            decisions.append(fresh)
        study.tell(trial, 0.5)
    assert 50 < sum(decisions) < len(decisions) - 50


def by_the_rule(study: optuna.Study, trial: FrozenTrial) -> bool:
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    epoch = max(trial.intermediate_values)
    branches = {
        other.system_attrs[STAGES_ATTR][epoch - 1]: other.intermediate_values[epoch]
        for other in complete
    }
    if not branches:
        return False
    return max(trial.intermediate_values.values()) < statistics.median(branches.values())


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
