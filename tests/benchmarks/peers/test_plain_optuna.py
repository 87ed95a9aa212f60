from pathlib import Path

import pytest

from benchmarks.peers import canopy_search, plain_optuna
from benchmarks.peers.task import SHAPES, Curves

TABLE = Path(__file__).parents[3] / "benchmarks" / "curves" / "shapes.parquet"


@pytest.fixture(scope="module")
def curves() -> Curves:
    return Curves(TABLE)


def test_the_space_that_is_written_down_is_the_tables(curves: Curves) -> None:
    assert curves.space == SHAPES
    for gamma in SHAPES.gammas:
        params = {"backbone": "tinycnn_8", "loss": "bce", "gamma": gamma}
        assert len(curves.curve(params)) == SHAPES.epochs


def test_random_search_trains_every_epoch_of_every_trial(curves: Curves) -> None:
    entries = plain_optuna.simulated(curves, "random", "none", seed=0, trials=7)
    assert len(entries) == 7 * SHAPES.epochs
    assert entries[-1].at_s == pytest.approx(sum(entry.train_s for entry in entries))
    for entry in entries:
        point = curves.curve(entry.params)[entry.epoch - 1]
        assert (entry.val_ap, entry.train_s) == (point.val_ap, point.seconds)


@pytest.mark.parametrize("pruner", ["median", "hyperband", "successive_halving"])
def test_a_pruner_saves_epochs_and_the_same_seed_is_the_same_search(
    curves: Curves, pruner: str
) -> None:
    entries = plain_optuna.simulated(curves, "tpe", pruner, seed=1, trials=20)
    assert entries == plain_optuna.simulated(curves, "tpe", pruner, seed=1, trials=20)
    assert {entry.trial for entry in entries} == set(range(20))
    assert len(entries) < 20 * SHAPES.epochs


def test_canopy_reports_the_same_with_and_without_the_tree_and_trains_less_with_it(
    curves: Curves,
) -> None:
    shared = canopy_search.simulated(curves, 0, 20, 1, shares=True)
    alone = canopy_search.simulated(curves, 0, 20, 1, shares=False)
    assert [(e.trial, e.epoch, e.val_ap) for e in shared] == [
        (e.trial, e.epoch, e.val_ap) for e in alone
    ]
    assert all(entry.trained for entry in alone)
    assert sum(entry.trained for entry in shared) < len(alone)
    assert shared[-1].at_s < alone[-1].at_s
