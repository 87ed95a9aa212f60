"""What is spent on the answer before a search ends: on what, how much, and when no more."""

from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.config.settings import NamedSettings
from canopy_search.search.scheduling.branches import BranchPruner
from canopy_search.search.scheduling.factory import GridSampler
from canopy_search.search.scheduling.next_trial import Idle, TrialRequest, choose_trial
from canopy_search.search.scheduling.open_study import OpenStudy
from canopy_search.search.scheduling.pausing_pruner import NewTrial, Promotion, rung_mark
from canopy_search.search.scheduling.verification import Check, Verification, verifying
from canopy_search.search.simulation.landscapes import FAMILIES, Landscape
from canopy_search.search.simulation.replay import SimulatedEpoch, SimulatedPlan, simulate
from canopy_search.storage.study.trial_attributes import (
    CONTENDER,
    NEIGHBOUR,
    RUNG_ATTR,
    UNTRAINED,
    VERIFIES_ATTR,
)

EPOCHS = 8
SPACE = {
    "backbone": CategoricalDistribution(["a", "b"]),
    "gamma": FloatDistribution(0.8, 1.0, step=0.05),
}
BEST = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.62, 0.64)


class Study:
    """Trials made by hand."""

    def __init__(self) -> None:
        self.trials: list[FrozenTrial] = []

    def add(self, backbone: str, gamma: float, *aps: float, **attributes: Any) -> FrozenTrial:
        """Adds a trial that pauses after these epochs, or is complete after all of them."""
        is_complete = len(aps) == EPOCHS
        marks = {} if is_complete else {RUNG_ATTR: rung_mark(len(aps), paused=True)}
        trial = optuna.trial.create_trial(
            state=TrialState.COMPLETE if is_complete else TrialState.RUNNING,
            value=aps[-1] if is_complete else None,
            params={"backbone": backbone, "gamma": gamma},
            distributions=dict(SPACE),
            intermediate_values=dict(enumerate(aps, start=1)),
            user_attrs={**marks, **attributes},
        )
        trial.number = len(self.trials)
        self.trials.append(trial)
        return trial

    def check(self, share: float = 0.2, *, begins: bool = True) -> Check | None:
        """Returns what would be verified now."""
        pruner = BranchPruner(epochs=EPOCHS)
        return Verification(share, EPOCHS, pruner).check(self.trials, begins=begins)


@pytest.fixture
def study() -> Study:
    """One complete trial, with all its neighbours tried and worse."""
    made = Study()
    made.add("a", 0.9, *BEST)
    for gamma in (0.85, 0.95):
        made.add("a", gamma, *[ap - 0.05 for ap in BEST])
    return made


def test_nothing_is_verified_before_there_is_an_answer() -> None:
    study = Study()
    study.add("a", 0.9, 0.3)
    assert study.check() is None


def test_where_all_is_known_nothing_is_verified(study: Study) -> None:
    assert study.check() is None


def test_a_new_neighbour_begins_where_no_paused_trial_is_one() -> None:
    study = Study()
    study.add("a", 0.9, *BEST)
    wanted = NewTrial({"backbone": "a", "gamma": 0.95}, 4)
    assert study.check() == Check(wanted, NEIGHBOUR, 0)
    assert study.check(begins=False) is None
    twin = study.add("a", 0.95, 0.3)
    assert study.check() == Check(Promotion(twin.number, 4), NEIGHBOUR, 1)


def test_the_network_that_was_never_fully_trained(study: Study) -> None:
    paused = study.add("b", 0.9, 0.2, 0.3, 0.38, 0.48)
    assert study.check() == Check(Promotion(paused.number, EPOCHS), UNTRAINED, 4)
    study.trials.remove(paused)
    study.add("b", 0.8, 0.2, 0.3, 0.38, 0.48, 0.5, 0.52, 0.53, 0.54)
    study.add("b", 0.9, 0.2, 0.3, 0.37, 0.45)
    assert study.check() is None, "what is hopeless in a network that is known is left"


def test_a_trial_that_is_heading_as_high_is_a_contender(study: Study) -> None:
    paused = study.add("a", 1.0, 0.3, 0.39, 0.45, 0.51)
    assert study.check() == Check(Promotion(paused.number, EPOCHS), CONTENDER, 4)


def test_a_hopeless_network_is_left_alone(study: Study) -> None:
    study.add("b", 0.9, 0.1, 0.11, 0.12, 0.13)
    assert study.check() is None


@pytest.mark.parametrize(("share", "is_affordable"), [(0.2, False), (0.5, True)])
def test_no_more_than_the_share_and_one_full_run(
    study: Study, share: float, *, is_affordable: bool
) -> None:
    """27 epochs that do not verify and 6 that do; 4 more are asked for."""
    mark = {VERIFIES_ATTR: {"kind": UNTRAINED, "from_epoch": 2}}
    study.add("a", 0.8, *[ap - 0.1 for ap in BEST], **mark)
    study.add("a", 1.0, 0.3, 0.39, 0.45, 0.51)
    assert (study.check(share) is not None) == is_affordable


def test_nothing_is_verified_with_a_share_of_0() -> None:
    assert verifying(0.0, EPOCHS, NopPruner()) is None


def test_without_rungs_a_neighbour_runs_to_the_end() -> None:
    study = Study()
    study.add("a", 1.0, *BEST)
    check = Verification(0.2, EPOCHS, None).check(study.trials, begins=True)
    assert check == Check(NewTrial({"backbone": "a", "gamma": 0.9}, EPOCHS), NEIGHBOUR, 0)


@pytest.mark.parametrize("pruner", ["branches", "asha", "median", "none"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_search_that_verifies_ends_with_as_many_trials(pruner: str, workers: int) -> None:
    landscape = Landscape(FAMILIES["late-8"], 3)
    found = {}
    for verify in (0.0, 0.2):
        epochs: list[SimulatedEpoch] = []
        run = simulate(
            landscape,
            SimulatedPlan(
                NamedSettings(name="tpe"), NamedSettings(name=pruner), 16, workers, verify=verify
            ),
            3,
            on_epoch=epochs.append,
        )
        assert run.trials == 16
        assert {epoch.trial for epoch in epochs} == set(range(16))
        found[verify] = run
    if pruner in {"branches", "asha"}:
        assert found[0.2].epochs_trained > found[0.0].epochs_trained


def claimed(
    sampler: BaseSampler, study: Study | None = None, n_trials: int = 10, **options: Any
) -> optuna.trial.Trial | Idle:
    """Claims a trial of a study; by default of one whose one trial is complete."""
    if study is None:
        study = Study()
        study.add("a", 1.0, *BEST)
    storage = InMemoryStorage()
    created = optuna.create_study(storage=storage, direction="maximize", sampler=sampler)
    created.add_trials(study.trials)
    pruner = BranchPruner(epochs=EPOCHS)
    verification = Verification(0.2, EPOCHS, pruner)
    opened = OpenStudy(created, storage)
    return choose_trial(opened, pruner, TrialRequest(n_trials, **options), verification)


def test_a_search_that_improves_no_more_is_verified() -> None:
    found = claimed(RandomSampler(seed=0), searches=False)
    assert isinstance(found, optuna.trial.Trial)
    assert found.suggest_categorical("backbone", ["a", "b"]) == "a"
    assert found.suggest_float("gamma", 0.8, 1.0, step=0.05) == 0.9
    assert found.user_attrs[VERIFIES_ATTR] == {"kind": NEIGHBOUR, "from_epoch": 0}
    assert claimed(RandomSampler(seed=0), begins=False) is Idle.DONE


def test_what_is_kept_for_neighbours_is_not_sampled_while_a_better_one_may_end(
    study: Study,
) -> None:
    for gamma in (0.8, 0.85, 0.9, 0.95):
        study.add("b", gamma, *[ap - 0.1 for ap in BEST])
    assert claimed(RandomSampler(seed=0), study, 8, owned=(9,)) is Idle.WAIT
    sampled = claimed(RandomSampler(seed=0), study, 8)
    assert isinstance(sampled, optuna.trial.Trial)
    assert VERIFIES_ATTR not in sampled.user_attrs


def test_beside_a_grid_nothing_begins() -> None:
    grid = GridSampler({"backbone": ["a", "b"], "gamma": [0.9, 1.0]}, seed=0)
    assert claimed(grid, searches=False) is Idle.DONE


@pytest.mark.parametrize("name", ["plain-8", "late-8"])
def test_verified_answers_are_better_on_the_mean(name: str) -> None:
    regrets = {0.0: 0.0, 0.2: 0.0}
    for seed in range(6):
        landscape = Landscape(FAMILIES[name], seed)
        for verify in regrets:
            run = simulate(
                landscape,
                SimulatedPlan(
                    NamedSettings(name="tpe"), NamedSettings(name="branches"), 16, verify=verify
                ),
                seed,
            )
            regrets[verify] += landscape.best_ap - (run.best_ap or 0.0)
    assert regrets[0.2] < regrets[0.0]
