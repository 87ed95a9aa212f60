from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from canopy_search.dashboards.stats.difference import BETTER, NO_VERDICT, WITHIN_NOISE, WORSE
from canopy_search.dashboards.stats.seeds import paired_difference, spread

APS = st.floats(0.0, 1.0)
STUDIES = 2000


@given(st.lists(APS, min_size=3, max_size=9).filter(lambda values: np.std(values) > 1e-6))
def test_spread_is_what_scipy_says(values: list[float]) -> None:
    found = spread(values)
    assert found.seeds == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(stats.tstd(values))
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(np.clip(expected, 0, 1))


def test_one_seed_has_no_spread() -> None:
    found = spread([0.5])
    assert (found.mean, found.sd, found.low, found.high) == (0.5, None, None, None)


@pytest.mark.parametrize("comparisons", [1, 4])
def test_a_paired_difference_is_what_scipy_says(comparisons: int) -> None:
    ours, theirs = [0.61, 0.64, 0.60], [0.58, 0.62, 0.59]
    found = paired_difference(ours, theirs, comparisons=comparisons)
    test = stats.ttest_rel(ours, theirs)
    expected = test.confidence_interval(1 - 0.05 / comparisons)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.confidence == pytest.approx(1 - 0.05 / comparisons)
    assert found.over == "3 seeds"


def test_equal_runs_are_within_noise_and_swapped_ones_are_worse() -> None:
    assert paired_difference([0.5, 0.6, 0.7], [0.5, 0.6, 0.7]).verdict == WITHIN_NOISE
    lead = [0.62, 0.63, 0.62, 0.63], [0.52, 0.53, 0.53, 0.52]
    assert paired_difference(*lead).verdict == BETTER
    assert paired_difference(*reversed(lead)).verdict == WORSE


def test_the_variance_of_images_adds_to_that_of_seeds() -> None:
    ours, theirs = [0.61, 0.64, 0.60], [0.58, 0.62, 0.59]
    alone = paired_difference(ours, theirs)
    more = paired_difference(ours, theirs, image_se=0.05)
    assert more.mean == alone.mean
    # Nearly all variance is the images', whose degrees of freedom are many.
    assert more.high - more.mean == pytest.approx(1.96 * 0.05, rel=0.03)
    same = paired_difference(ours, theirs, image_se=0.0)
    assert (same.low, same.high) == pytest.approx((alone.low, alone.high))
    assert same.over == "3 seeds and the images"


@pytest.mark.parametrize(("seeds", "image_sd"), [(2, 0.0), (3, 0.0), (3, 0.01), (5, 0.02)])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds: int, image_sd: float) -> None:
    random = np.random.default_rng(7)
    held = 0
    for _ in range(STUDIES):
        images = random.normal(scale=image_sd)  # the same for all seeds
        lead = 0.02 + images + random.normal(scale=0.02, size=seeds)
        found = paired_difference(lead, np.zeros(seeds), image_se=image_sd or None)
        held += found.low <= 0.02 <= found.high
    assert 0.94 * STUDIES <= held <= 0.975 * STUDIES


@pytest.mark.parametrize("settings", [2, 3, 5])
def test_of_equal_settings_the_best_is_rarely_called_better(settings: int) -> None:
    random = np.random.default_rng(8)
    wrong_second = wrong_base = 0
    for _ in range(STUDIES):
        scores = random.normal(0.6, 0.02, size=(settings, 3))
        order = np.argsort(-scores.mean(axis=1))
        second = paired_difference(scores[order[0]], scores[order[1]])
        wrong_second += second.verdict == BETTER
        base = settings - 1
        if order[0] != base:
            lead = paired_difference(scores[order[0]], scores[base], comparisons=settings - 1)
            wrong_base += lead.verdict == BETTER
    assert wrong_second <= 0.06 * STUDIES
    assert wrong_base <= 0.06 * STUDIES


def test_two_seeds_have_neither_interval_nor_verdict() -> None:
    found = spread([0.2, 0.9])
    assert (found.low, found.high) == (None, None)
    difference = paired_difference([0.62, 0.63], [0.52, 0.53])
    assert difference.verdict == difference.reversed().verdict == NO_VERDICT


@given(st.lists(APS, min_size=3, max_size=9), st.randoms())
def test_intervals_stay_where_aps_and_their_differences_are(
    values: list[float], random: Random
) -> None:
    found = spread(values)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.high <= 1
    others = [random.random() for _ in values]
    difference = paired_difference(values, others)
    assert -1 <= difference.low <= difference.high <= 1
