import pytest

from benchmarks.peers import canopy, plain_optuna
from benchmarks.peers.plain_optuna import Method
from benchmarks.peers.task import FOLDER, RATES, SHAPES, Lookup, curves_of
from canopy_search.search.config.settings import SearchSettings
from canopy_search.search.simulation.replay import SimulatedPlan
from canopy_search.search.study.configuration import load_config

TABLE = str(FOLDER / "curves" / "shapes.parquet")
EPOCHS = 9


@pytest.fixture(scope="module")
def lookup() -> Lookup:
    return Lookup(curves_of(TABLE, 0))


def test_the_table_covers_the_space_that_is_really_searched(lookup: Lookup) -> None:
    config = load_config(SHAPES)
    assert lookup.space.distributions == config.space.distributions
    assert lookup.curves.epochs == config.settings.training.epochs == EPOCHS


def test_a_setting_that_is_off_by_a_rounding_error_is_found(lookup: Lookup) -> None:
    params = {"backbone": "tinycnn_8", "loss": "bce", "gamma": 0.7 + 0.03 * 3}
    assert params["gamma"] != 0.79
    assert lookup.curve(params) == lookup.curve({**params, "gamma": 0.79})


def test_in_the_space_of_rates_no_epoch_is_shared() -> None:
    plan = SimulatedPlan(SearchSettings().sampler, SearchSettings().pruner, 20)
    entries = canopy.simulated(Lookup(curves_of(RATES, 0)), plan, seed=0)
    settings = {str(entry.params) for entry in entries}
    trained = {(str(entry.params), entry.epoch) for entry in entries if entry.trained}
    assert sum(epoch == 1 for _, epoch in trained) == len(settings)


@pytest.mark.parametrize("name", ["kept-plain-8", RATES])
def test_curves_are_drawn_anew_for_each_seed(name: str) -> None:
    drawn = [curves_of(name, seed).best_ap for seed in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]


def test_random_search_trains_every_epoch_of_every_trial(lookup: Lookup) -> None:
    entries = plain_optuna.simulated(lookup, Method("random", "none", seed=0, trials=7))
    assert len(entries) == 7 * EPOCHS
    assert entries[-1].at_s == pytest.approx(sum(entry.train_s for entry in entries))
    for entry in entries:
        point = lookup.curve(entry.params)[entry.epoch - 1]
        assert (entry.val_ap, entry.train_s) == (point.val_ap, point.seconds)


@pytest.mark.parametrize("pruner", ["median", "hyperband", "successive_halving"])
def test_a_pruner_saves_epochs_and_the_same_seed_is_the_same_search(
    lookup: Lookup, pruner: str
) -> None:
    method = Method("tpe", pruner, seed=1, trials=20)
    entries = plain_optuna.simulated(lookup, method)
    assert entries == plain_optuna.simulated(lookup, method)
    assert {entry.trial for entry in entries} == set(range(20))
    assert len(entries) < 20 * EPOCHS


def test_canopy_reports_the_same_with_and_without_the_tree_and_trains_less_with_it(
    lookup: Lookup,
) -> None:
    defaults = SearchSettings()
    shared, alone = (
        canopy.simulated(
            lookup, SimulatedPlan(defaults.sampler, defaults.pruner, 20, 1, shares), seed=0
        )
        for shares in (True, False)
    )
    assert [(e.trial, e.epoch, e.val_ap) for e in shared] == [
        (e.trial, e.epoch, e.val_ap) for e in alone
    ]
    assert all(entry.trained for entry in alone)
    assert sum(entry.trained for entry in shared) < len(alone)
    assert shared[-1].at_s < alone[-1].at_s
