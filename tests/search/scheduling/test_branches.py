"""Promotion along the stage tree, by hand and on landscapes where early epochs mislead."""

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.config.settings import NamedSettings
from canopy_search.search.scheduling.branches import BranchPruner
from canopy_search.search.scheduling.pausing_pruner import NewTrial, Promotion, rung_mark
from canopy_search.search.scheduling.projection import heading
from canopy_search.search.scheduling.trial_index import TrialIndex
from canopy_search.search.simulation.landscapes import FAMILIES, Landscape
from canopy_search.search.simulation.replay import SimulatedPlan, simulate
from canopy_search.storage.study.trial_attributes import FULL_ATTR, RUNG_ATTR, STAGES_ATTR

EPOCHS = 8
SPACE = {
    "backbone": CategoricalDistribution(["a", "b", "c", "d"]),
    "loss": CategoricalDistribution(["bce", "focal"]),
    "gamma": FloatDistribution(0.8, 1.0, step=0.05),
}


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [
        (1, []),
        (2, [1]),
        (3, [1, 2]),
        (8, [1, 4]),
        (16, [1, 4, 8]),
        (30, [1, 8, 15]),
        (48, [1, 6, 12, 24]),
    ],
)
def test_rungs_are_where_settings_have_acted(epochs: int, rungs: list[int]) -> None:
    assert BranchPruner(epochs=epochs).rungs == rungs


def test_the_first_rung_may_be_given() -> None:
    assert BranchPruner(3, epochs=30).rungs == [1, 3, 6, 12, 15]
    assert BranchPruner(20, epochs=30).rungs == [1, 20]
    for wrong in ({"min_epochs": 1}, {"reduction_factor": 1}):
        with pytest.raises(ValueError, match="expected at least 2"):
            BranchPruner(epochs=8, **wrong)


class Table:
    """Trials as a study has them, made by hand."""

    def __init__(self) -> None:
        self.trials: list[FrozenTrial] = []

    def add(
        self, backbone: str, loss: str, gamma: float, *aps: float, state: str = "paused"
    ) -> int:
        """Adds a trial that has reported these APs, and pauses, runs on or is complete."""
        params = {"backbone": backbone, "loss": loss, "gamma": gamma}
        stages = [
            f"{backbone} {loss} {gamma if epoch > 1 else ''} {epoch}"
            for epoch in range(1, EPOCHS + 1)
        ]
        is_complete = state == "complete"
        marks: Mapping[str, Any] = {} if is_complete else {
            RUNG_ATTR: rung_mark(len(aps) if state == "paused" else 4, paused=state == "paused")
        }  # fmt: skip
        trial = optuna.trial.create_trial(
            state=TrialState.COMPLETE if is_complete else TrialState.RUNNING,
            value=aps[-1] if is_complete else None,
            params=params,
            distributions=dict(SPACE),
            intermediate_values=dict(enumerate(aps, start=1)),
            user_attrs=dict(marks),
            system_attrs={STAGES_ATTR: stages},
        )
        trial.number = len(self.trials)
        self.trials.append(trial)
        return trial.number

    def promotion(
        self, reduction_factor: int = 4, *, begins: bool = False
    ) -> Promotion | NewTrial | None:
        trial_index = TrialIndex()
        trial_index.update(self.trials)
        rule = BranchPruner(reduction_factor=reduction_factor, epochs=EPOCHS)
        return rule.promotion(trial_index, begins=begins)


def test_one_in_so_many_settings_resumes_and_twins_count_once() -> None:
    table = Table()
    for _ in range(5):
        table.add("a", "bce", 0.8, 0.3)  # one setting, tried again and again
    table.add("a", "bce", 0.85, 0.3)
    table.add("b", "bce", 0.8, 0.2)
    assert table.promotion() is None
    best = table.add("c", "bce", 0.8, 0.4)
    assert table.promotion() == Promotion(best, 4)
    assert table.promotion(reduction_factor=5) is None


def test_what_is_never_pruned_takes_nobody_s_place() -> None:
    table = Table()
    baseline = table.add("a", "bce", 1.0, 0.3, 0.4, 0.5, 0.5, 0.6, 0.6, 0.6, 0.6, state="complete")
    table.trials[baseline].user_attrs[FULL_ATTR] = True
    for gamma in (0.8, 0.85, 0.9):
        table.add("b", "bce", gamma, 0.2)
    assert table.promotion() is None
    fourth = table.add("c", "bce", 0.8, 0.35)
    assert table.promotion() == Promotion(fourth, 4)


def test_every_network_gets_a_chance_before_the_best_one_gets_another() -> None:
    table = Table()
    table.add("a", "bce", 0.8, 0.4, 0.5, state="runs on")
    for gamma in (0.85, 0.9, 0.95, 1.0):
        table.add("a", "bce", gamma, 0.4)
    other = table.add("b", "focal", 0.8, 0.1)
    table.add("a", "focal", 0.8, 0.38)
    table.add("a", "focal", 0.85, 0.38)
    assert table.promotion() == Promotion(other, 4)


def test_where_it_leads_clearly_the_best_root_s_twins_resume() -> None:
    """In the middle of the larger gap beside the best gamma."""
    table = Table()
    table.add("a", "bce", 0.85, 0.4, 0.5, 0.55, 0.58, state="runs on")
    table.add("b", "bce", 0.85, 0.2, 0.25, 0.28, 0.3)
    ends = {gamma: table.add("a", "bce", gamma, 0.4) for gamma in (0.8, 0.95, 1.0)}
    for gamma in (0.8, 0.9, 0.95, 1.0):
        table.add("b", "bce", gamma, 0.2)
    for gamma in (0.8, 0.9, 1.0):
        table.add("a", "focal", gamma, 0.25)
    assert table.promotion() == Promotion(ends[0.95], 4)


def test_at_a_later_rung_it_counts_where_a_curve_is_heading() -> None:
    table = Table()
    flat = table.add("a", "bce", 0.8, 0.4, 0.50, 0.51, 0.51)
    steep = table.add("b", "bce", 1.0, 0.1, 0.30, 0.40, 0.48)
    assert table.promotion() == Promotion(steep, EPOCHS)
    assert heading(table.trials[flat].intermediate_values, EPOCHS) < 0.52


def test_without_a_schedule_every_setting_is_its_own_root() -> None:
    """As in a table of networks alone, or where trials share nothing."""
    table = Table()
    for ap, network in zip((0.1, 0.2, 0.4, 0.3), "abcd", strict=True):
        trial = table.trials[table.add(network, "bce", 0.8, ap)]
        trial.params = {"width": trial.number}
        trial.distributions = {}
        del trial.system_attrs[STAGES_ATTR]
    assert table.promotion() == Promotion(2, 4)


def test_a_gamma_that_no_twin_has_is_begun_where_trials_may_begin() -> None:
    table = Table()
    table.add("a", "bce", 0.8, 0.4, 0.5, 0.55, 0.58, state="runs on")
    twin = table.add("a", "bce", 0.95, 0.4)
    for network in "bcd":
        table.add(network, "bce", 0.8, 0.2, 0.25, state="runs on")
    for network in "abcd":
        for gamma in (0.85, 0.9):
            table.add(network, "focal", gamma, 0.2)
    for gamma in (0.85, 0.9, 0.95, 1.0):
        table.add("b", "bce", gamma, 0.2)
    setting = {"backbone": "a", "loss": "bce", "gamma": 0.9}
    assert table.promotion(3) == Promotion(twin, 4)
    assert table.promotion(3, begins=True) == NewTrial(setting, 4)


def test_another_root_begins_with_the_gamma_that_leads() -> None:
    table = Table()
    table.add("a", "bce", 0.85, 0.4, 0.5, 0.55, 0.58, 0.6, 0.6, 0.6, 0.6, state="complete")
    table.add("a", "bce", 1.0, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.7, 0.7, state="complete")
    for network in "bcd":
        table.add(network, "bce", 0.8, 0.2, 0.25, state="runs on")
    for network in "bcd":
        table.add(network, "focal", 0.8, 0.2)
    for loss in ("bce", "focal"):
        for gamma in (0.8, 0.85, 0.9, 0.95):
            table.add("b", loss, gamma, 0.2)
    table.add("a", "focal", 0.8, 0.41)
    setting = {"backbone": "a", "loss": "focal", "gamma": 1.0}
    assert table.promotion(2, begins=True) == NewTrial(setting, 4)


def test_a_choice_that_nobody_sampled_is_begun() -> None:
    table = Table()
    for gamma in (0.8, 0.85, 0.9, 0.95, 1.0):
        table.add("a", "bce", gamma, 0.4)
        table.add("b", "bce", gamma, 0.2)
    missing = {"backbone": "c", "loss": "bce", "gamma": 0.8}
    assert table.promotion(9, begins=True) == NewTrial(missing, 1)
    table.add("c", "bce", 0.8, 0.2)
    table.add("d", "bce", 0.8, 0.2)
    missing = {"backbone": "a", "loss": "focal", "gamma": 0.8}
    assert table.promotion(9, begins=True) == NewTrial(missing, 1)
    assert not isinstance(table.promotion(9), NewTrial)


@pytest.mark.parametrize("name", [pytest.param("plain-8", marks=pytest.mark.exhaustive), "late-8"])
def test_it_regrets_less_than_asha_where_early_epochs_mislead(name: str) -> None:
    found = {}
    for pruner in ("asha", "branches"):
        runs = []
        for seed in range(6):
            landscape = Landscape(FAMILIES[name], seed)
            run = simulate(
                landscape,
                SimulatedPlan(NamedSettings(name="tpe"), NamedSettings(name=pruner), 40),
                seed,
            )
            assert run.trials == 40
            assert run.complete >= 1
            runs.append((landscape.best_ap - (run.best_ap or 0.0), run.seconds))
        found[pruner] = [sum(column) / len(runs) for column in zip(*runs, strict=True)]
    assert found["branches"][0] < 0.6 * found["asha"][0]
    assert found["branches"][1] < 2 * found["asha"][1]


def test_a_network_that_had_no_turn_has_it_before_the_study_ends() -> None:
    table = Table()
    table.add("a", "bce", 0.8, 0.4, 0.5, 0.5, 0.5)
    table.add("b", "bce", 0.8, 0.1)
    better = table.add("b", "focal", 0.8, 0.2)
    trial_index = TrialIndex()
    trial_index.update(table.trials)
    rule = BranchPruner(epochs=EPOCHS)
    assert rule.promotion(trial_index, begins=False) is None
    assert rule.closing_promotion(trial_index) == Promotion(better, 4)
    table.trials[better].user_attrs[RUNG_ATTR] = rung_mark(4, paused=False)
    trial_index.update(table.trials)
    assert rule.closing_promotion(trial_index) is None
