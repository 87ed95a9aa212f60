import statistics
from collections.abc import Mapping
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from canopy_search.search.config.settings import NamedSettings
from canopy_search.search.forecast.likely_curves import LikelyCurves
from canopy_search.search.simulation.curve_files import read_curves
from canopy_search.search.simulation.replay import SimulatedPlan, simulate
from tests.reading_docs import ROOT

CURVES = ROOT / "benchmarks" / "curves"
SPACE = {
    "backbone": CategoricalDistribution(["small", "large"]),
    "optimizer.lr": FloatDistribution(1e-5, 1e-1, log=True),
    "gamma": FloatDistribution(0.8, 1.0),
    "batch_size": IntDistribution(32, 32),
}
EPOCHS = 6


def likely(seed: int, shared: int = 1) -> LikelyCurves:
    """Curves of `SPACE` whose settings have their first epochs in common."""

    def stages(params: Mapping[str, Any]) -> list[str]:
        own = repr(sorted(params.items()))
        return [
            f"{params['backbone']} {epoch}" if epoch < shared else f"{own} {epoch}"
            for epoch in range(EPOCHS)
        ]

    return LikelyCurves(SPACE, EPOCHS, seed, stages, lambda params: len(params["backbone"]))


def setting(**changed: Any) -> dict[str, Any]:
    return {"backbone": "small", "optimizer.lr": 1e-3, "gamma": 0.9, "batch_size": 32} | changed


def test_epochs_that_settings_share_have_one_ap() -> None:
    curves = likely(0, shared=2)
    one, other = (curves.curve(setting(gamma=gamma)) for gamma in (0.8, 1.0))
    assert one[:2] == other[:2]
    assert one[2].val_ap != other[2].val_ap


def test_the_same_seed_is_the_same_landscape_and_another_is_not() -> None:
    first, again, other = (likely(seed).curve(setting()) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_ap_is_one_and_rises_and_seconds_are_the_networks() -> None:
    for seed in range(20):
        for backbone, seconds in (("small", 5), ("large", 5)):
            points = likely(seed).curve(setting(backbone=backbone))
            values = [point.val_ap or 0.0 for point in points]
            assert all(0 < value < 1 for value in values)
            assert values[-1] > values[0]
            assert [point.seconds for point in points] == EPOCHS * [seconds]


@pytest.mark.parametrize("seed", range(4))
def test_regret_is_how_much_better_the_best_setting_ends(seed: int) -> None:
    curves = likely(seed)
    points = [
        setting(backbone=backbone, gamma=gamma, **{"optimizer.lr": 10**exponent})
        for backbone in ("small", "large")
        for gamma in (0.8, 0.85, 0.9, 0.95, 1.0)
        for exponent in (-5, -4, -3, -2, -1)
    ]
    regrets = [curves.regret(point) for point in points]
    assert min(regrets) >= 0
    assert min(regrets) < 0.01 < max(regrets)
    ends = [curves.curve(point)[-1].val_ap or 0.0 for point in points]
    assert statistics.correlation(regrets, ends) < -0.7, "but for noise"


@pytest.mark.parametrize(
    ("name", "pruner"),
    [
        ("demo", "asha"),
        *(
            pytest.param(*pair, marks=pytest.mark.exhaustive)
            for pair in [
                ("shapes", "median"),
                ("demo", "median"),
                ("shapes", "asha"),
                ("demo", "none"),
                ("shapes", "none"),
            ]
        ),
    ],
)
def test_searches_on_them_train_about_as_many_epochs_as_on_recorded_curves(
    name: str, pruner: str
) -> None:
    table = read_curves(CURVES / f"{name}.parquet")

    def trained(seed: int, *, recorded: bool) -> int:
        curves = LikelyCurves(
            table.distributions,
            table.epochs,
            seed,
            lambda params: [point.stage for point in table.curve(params)],
            lambda _params: 1.0,
        )
        return simulate(
            table if recorded else curves,
            SimulatedPlan(NamedSettings(name="tpe"), NamedSettings(name=pruner), 40),
            seed,
        ).epochs_trained

    real, likely_ = (
        statistics.fmean(trained(seed, recorded=recorded) for seed in range(6))
        for recorded in (True, False)
    )
    assert likely_ == pytest.approx(real, rel=0.25)
