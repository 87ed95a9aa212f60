"""What the defaults find on recorded learning curves; a change for the worse is seen here."""

import pytest

from canopy_search.search.config.settings import SearchSettings
from canopy_search.search.simulation.comparison import Searches, compare
from canopy_search.search.simulation.curve_files import read_curves
from canopy_search.search.study.configuration import DEMO_CONFIG, load_config
from tests.reading_docs import ROOT

CURVES = ROOT / "benchmarks" / "curves"


@pytest.mark.parametrize("name", ["demo", pytest.param("shapes", marks=pytest.mark.exhaustive)])
def test_the_default_finds_as_much_as_the_median_with_fewer_epochs(name: str) -> None:
    defaults = SearchSettings()
    table = read_curves(CURVES / f"{name}.parquet")
    median, ours = compare(
        dict.fromkeys(range(4), table),
        [defaults.sampler.name],
        ["median", defaults.pruner.name],
        Searches(trials=defaults.trials),
    )
    assert ours.best_ap.mean > median.best_ap.mean - 0.005
    assert ours.epochs_trained.mean < 0.8 * median.epochs_trained.mean
    assert ours.share_within(0.01) == 1


def test_the_demo_is_the_space_of_the_curves() -> None:
    table, config = read_curves(CURVES / "demo.parquet"), load_config(DEMO_CONFIG).settings
    assert list(table.distributions) == list(config.search.space)
    assert table.about["training"]["epochs"] == config.training.epochs == table.epochs
    assert len(table.curves) == 4 * 3 * 21
