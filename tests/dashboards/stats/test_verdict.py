"""Verdicts against a known truth, and the reasons when there is no verdict."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.stats.bootstrap import resample_ap
from canopy_search.dashboards.stats.difference import Difference, Interval, NoVerdict
from canopy_search.dashboards.stats.verdict import ap_interval, verdicts
from canopy_search.storage.study.predictions import Predictions, ValidationSet
from tests.dashboards.simulated_predictions import (
    EQUAL,
    THREE_ERRORS_BETTER,
    SimulatedData,
)
from tests.dashboards.summaries import study, trial

RESAMPLES = 200


@pytest.fixture(scope="module")
def cases(pytestconfig: pytest.Config) -> range:
    """Seeds of the simulated data for which a property is counted."""
    return range(100 if pytestconfig.getoption("exhaustive") else 30)


def observed(models: list[Predictions]) -> list[float]:
    return resample_ap(models, resamples=1).observed.tolist()


def words_of(quality: float, cases: range) -> Counter[str]:
    """Counts the verdicts on a model of that quality against one that is `EQUAL`."""
    words: Counter[str] = Counter()
    for case in cases:
        data = SimulatedData(case)
        pair = {"base": data.model(), "other": data.model(quality)}
        found = verdicts(pair, "base", ["other"], resamples=RESAMPLES)["other"]
        assert isinstance(found, Difference)
        words[found.verdict] += 1
    return words


def test_models_of_equal_quality_are_within_noise(cases: range) -> None:
    assert words_of(EQUAL, cases)["within noise"] >= 0.93 * len(cases)


def test_a_model_three_standard_errors_better_is_called_so(cases: range) -> None:
    pairs = []
    for case in cases:
        data = SimulatedData(case)
        pairs.append(observed([data.model(), data.model(THREE_ERRORS_BETTER)]))
    base, other = np.array(pairs).T
    assert 2.8 < (other - base).mean() / base.std() < 3.2  # such models they are

    assert words_of(THREE_ERRORS_BETTER, cases)["better"] >= 0.9 * len(cases)
    assert words_of(2 * EQUAL - THREE_ERRORS_BETTER, cases)["worse"] >= 0.9 * len(cases)


def test_the_best_of_forty_equal_ones_is_within_noise_of_baseline_and_runner_up(
    cases: range,
) -> None:
    corrected: Counter[tuple[int, str]] = Counter()
    naive: Counter[str] = Counter()
    for case in cases:
        data = SimulatedData(case)
        models = dict(enumerate(data.model() for _ in range(40)))
        ranking = np.argsort(observed(list(models.values()))).tolist()
        best, second = ranking[-1], ranking[-2]
        for base in (0, second):
            if best == base:
                continue
            found = verdicts(models, base, [best], looked_at=40, resamples=RESAMPLES)[best]
            assert isinstance(found, Difference)
            corrected[base == 0, found.verdict] += 1
        naive[_word(verdicts(models, 0, [best], resamples=RESAMPLES)[best])] += 1
    assert corrected[True, "better"] <= 0.07 * len(cases)
    assert corrected[False, "better"] <= 0.07 * len(cases)
    assert naive["better"] >= 0.2 * len(cases)  # it is the correction that does it


def test_of_many_equal_ones_together_none_is_better_or_worse(cases: range) -> None:
    right = 0
    for case in cases:
        data = SimulatedData(case)
        models = dict(enumerate(data.model() for _ in range(10)))
        found = verdicts(models, 0, range(1, 10), resamples=RESAMPLES).values()
        right += all(_word(verdict) == "within noise" for verdict in found)
    assert right >= 0.93 * len(cases)


def test_the_interval_of_an_ap_covers_what_other_images_give(cases: range) -> None:
    apart = np.mean([observed([SimulatedData(case).model()]) for case in range(1000, 1500)])
    covered = 0
    for case in cases:
        interval = ap_interval(SimulatedData(case).model(), resamples=RESAMPLES)
        assert isinstance(interval, Interval)
        covered += interval.low <= apart <= interval.high
    assert covered >= 0.91 * len(cases)


def test_the_more_were_looked_at_the_wider_is_an_interval() -> None:
    data = SimulatedData(0)
    models = {"base": data.model(), "other": data.model()}
    widths = []
    for number in (2, 40, 1000):
        found = verdicts(models, "base", ["other"], looked_at=number)["other"]
        assert isinstance(found, Difference)
        assert found.comparisons == number - 1
        widths.append(found.high - found.low)
    # Two-sided quantiles of the normal distribution: .05, .05 / 39, .05 / 999.
    assert widths[1] / widths[0] == pytest.approx(3.22 / 1.96, rel=0.06)
    assert widths[2] / widths[0] == pytest.approx(4.06 / 1.96, rel=0.06)
    alone, picked = ap_interval(data.model()), ap_interval(data.model(), looked_at=40)
    assert isinstance(alone, Interval)
    assert isinstance(picked, Interval)
    assert picked.high - picked.low > 1.4 * (alone.high - alone.low)


def test_a_setting_that_was_tried_twice_costs_nothing() -> None:
    data = SimulatedData(0)
    base, other = data.model(), data.model()
    once = verdicts({0: base, 1: other}, 0, [1])
    often = verdicts({0: base, 1: other, 2: other, 3: base}, 0, [1, 2, 3])
    assert isinstance(once[1], Difference)
    assert isinstance(often[1], Difference)
    assert often[1].high == pytest.approx(once[1].high, abs=2e-3)
    assert often[2] == often[1]
    assert often[3] == Difference(0.0, 0.0, 0.0, comparisons=1)
    assert _word(often[3]) == "within noise"


def test_settings_that_were_looked_at_are_counted_once() -> None:
    other = {"backbone": "tinycnn_8"}
    trials = [
        trial(0, "COMPLETE", 8),
        trial(1, "PRUNED", 8),
        trial(2, "PRUNED", 1, params=other),
        trial(3, "WAITING", params={"backbone": "tinycnn_32"}),
    ]
    assert study(trials, []).looked_at == 2


def test_without_predictions_there_is_no_verdict(words: SnapshotAssertion) -> None:
    model = SimulatedData(0).model()
    only_base = verdicts({"base": model}, "base", ["other"])
    only_other = verdicts({"other": model}, "base", ["other"])
    assert list(only_base) == list(only_other) == ["other"]
    assert [_no_verdict(found["other"]) for found in (only_base, only_other)] == words
    assert verdicts({}, "base", []) == {}


def test_other_images_are_refused_with_the_difference(words: SnapshotAssertion) -> None:
    base, more = SimulatedData(0).model(), SimulatedData(1, images=301).model()
    changed = SimulatedData(1).model()
    renamed = Predictions(
        replace(changed.validation, labels=("label 0", "haze", "label 2")), changed.logits
    )
    turned = Predictions(
        replace(changed.validation, labels=("label 1", "label 0", "label 2")), changed.logits
    )
    others = (more, changed, renamed, turned)
    of_more, of_changed, of_renamed, of_turned = (_reason(base, other) for other in others)
    assert "301" in of_more
    assert "300" in of_more
    assert "label 1" in of_renamed
    assert "haze" in of_renamed
    assert [of_more, of_changed, of_renamed, of_turned] == words


@pytest.mark.parametrize("positives", [0, 1, 9])
def test_too_few_images_that_have_a_label_say_nothing(
    positives: int, words: SnapshotAssertion
) -> None:
    targets = np.zeros((50, 1), dtype=np.uint8)
    targets[:positives] = 1
    images = ValidationSet("few", ("haze",), targets)
    first, last = np.linspace(1, 0, 50), np.linspace(0, 1, 50)
    good, bad = (Predictions(images, s.astype(np.float32)[:, None]) for s in (first, last))
    reason = _reason(bad, good)
    assert f"{positives} of 50" in reason
    assert reason == words
    assert ap_interval(good) == NoVerdict(reason)


def _reason(base: Predictions, other: Predictions) -> str:
    return _no_verdict(verdicts({"base": base, "other": other}, "base", ["other"])["other"])


def _no_verdict(found: Difference | NoVerdict) -> str:
    assert isinstance(found, NoVerdict)
    return found.reason


def _word(verdict: Difference | NoVerdict) -> str:
    assert isinstance(verdict, Difference)
    return verdict.verdict
