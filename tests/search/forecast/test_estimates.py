import numpy as np
import pytest

from canopy_search.search.forecast.estimates import Range


def test_a_range_is_the_median_and_the_tenths_of_numpy() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=37).tolist()
    found = Range.from_values(values)
    expected = np.quantile(values, [0.1, 0.5, 0.9])
    assert [found.low, found.likely, found.high] == pytest.approx(expected.tolist())


def test_one_value_is_its_own_range() -> None:
    assert Range.from_values([3.0]) == Range(3.0, 3.0, 3.0)


def test_ranges_add_up_and_are_cut_off() -> None:
    both = Range(1, 2, 3) + Range(10, 20, 30)
    assert both == Range(11, 22, 33)
    assert both.times(0.5, 2.0) == Range(5.5, 22, 66)
    assert both.at_most(25) == Range(11, 22, 25)
