import math

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.config.settings import NamedSettings
from canopy_search.search.errors import CurveTableError
from canopy_search.search.simulation.landscapes import (
    FAMILIES,
    Family,
    Landscape,
    find_family,
    rank_correlations,
)
from canopy_search.search.simulation.replay import SimulatedPlan, simulate


@pytest.mark.parametrize("each", FAMILIES.values(), ids=FAMILIES)
class TestFamily:
    def test_a_seed_is_one_landscape(self, each: Family) -> None:
        params = {"backbone": "network_0", "loss": "loss_1", "gamma": 1.0}
        one, same, other = (Landscape(each, seed).curve(params) for seed in (3, 3, 4))
        assert one == same
        assert one != other
        assert len(one) == each.epochs

    def test_all_gammas_share_the_first_epoch_and_no_other(self, each: Family) -> None:
        landscape = Landscape(each, 0)
        low, high = (
            landscape.curve({"backbone": "network_1", "loss": "loss_0", "gamma": gamma})
            for gamma in (each.lowest_gamma, 1.0)
        )
        assert low[0] == high[0]
        assert not {point.stage for point in low[1:]} & {point.stage for point in high[1:]}

    def test_costs_are_as_it_says(self, each: Family) -> None:
        landscape = Landscape(each, 0)
        seconds = [
            landscape.curve({"backbone": f"network_{i}", "loss": "loss_0", "gamma": 1.0})[0].seconds
            for i in range(each.networks)
        ]
        assert max(seconds) / min(seconds) == pytest.approx(each.cost_ratio)

    def test_early_epochs_tell_little_of_the_end_where_it_misleads(self, each: Family) -> None:
        """As docs/stages.md says: below .2 at each of these epochs in the first quarter."""
        early = {
            epoch: value
            for epoch, value in rank_correlations(each, range(20)).items()
            if epoch <= each.epochs / 4
        }
        assert all(math.isfinite(value) for value in early.values())
        assert (max(early.values()) < 0.2) == each.is_misleading


def test_half_of_the_misleading_ones_and_of_all_are_kept_for_checking() -> None:
    kept = [each for each in FAMILIES.values() if each.is_held_out]
    assert 2 * len(kept) == len(FAMILIES)
    assert sum(each.is_misleading for each in kept) == 3


def test_the_best_is_found_by_trying_all() -> None:
    small = Family("small", 2, 2, 3, 0.1, 3, 2, is_misleading=False)
    landscape = Landscape(small, 0)
    plan = SimulatedPlan(NamedSettings(name="grid"), NamedSettings(name="none"), 12)
    found = simulate(landscape, plan, 0)
    assert found.best_ap == landscape.best_ap
    assert found.epochs_trained == 2 * 2 * (1 + 3 * 2)


def test_an_unknown_family_says_which_there_are(words: SnapshotAssertion) -> None:
    with pytest.raises(CurveTableError) as error:
        find_family("late-9")
    assert str(error.value) == words
