from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, fbeta_score

from canopy_search.training.metrics import NonFiniteLogitsError, multilabel_metrics
from canopy_search.training.network.thresholds import best_thresholds

Array = np.ndarray[Any, Any]


def chosen(logits: Array, targets: Array, beta: float = 1.0) -> Array:
    return best_thresholds(torch.tensor(logits), torch.tensor(targets), beta=beta)


def column(values: list[float]) -> Array:
    return np.array(values, np.float32)[:, None]


@given(data=st.data(), beta=st.sampled_from([0.5, 1.0, 2.0]))
def test_no_threshold_is_better_by_scikit_learn(data: st.DataObject, beta: float) -> None:
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 3)))
    # Few distinct values, so that there are ties.
    logits = data.draw(
        hnp.arrays(
            np.float32,
            shape,
            elements=st.sampled_from(
                [np.float32(v) for v in (-3e38, -2, -1e-45, 0, 1e-45, 0.1, 1, 1.0000001, 3e38)]
            ),
        )
    )
    targets = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1)))

    thresholds = chosen(logits, targets, beta)

    assert thresholds.dtype == np.float32
    assert np.isfinite(thresholds).all()
    for label in range(shape[1]):
        if not targets[:, label].any():
            assert thresholds[label] == 0
            continue
        scores, true = logits[:, label], targets[:, label]
        candidates = [*scores, np.float32(np.inf)]
        best = max(fbeta_score(true, scores >= c, beta=beta, zero_division=0) for c in candidates)
        found = fbeta_score(true, scores >= thresholds[label], beta=beta, zero_division=0)
        assert found == pytest.approx(best, abs=1e-12)


def test_a_threshold_lies_midway_between_two_logits() -> None:
    assert chosen(column([3, 2, -1, -4]), column([1, 1, 0, 0])).tolist() == [0.5]


def test_of_equally_good_thresholds_it_is_the_highest() -> None:
    # F1 is 2/3 for one tag and for three; the former is preferred.
    assert chosen(column([4, 2, 0, -2]), column([1, 0, 0, 1])).tolist() == [3.0]


def test_recall_counts_more_with_a_larger_beta() -> None:
    logits, targets = column([4, 2, 1, 0, -2]), column([1, 0, 0, 0, 1])

    assert chosen(logits, targets, 2.0) < chosen(logits, targets, 1.0)


def test_neighbouring_floats_are_still_told_apart() -> None:
    low = np.float32(1)
    high = np.nextafter(low, np.float32(2))

    assert chosen(column([high, low]), column([1, 0])).tolist() == [float(high)]


def test_only_positives_and_one_image() -> None:
    assert chosen(column([1, -7]), column([1, 1])).tolist() == [-7.5]
    assert chosen(column([5]), column([1])).tolist() == [4.5]


def test_metrics_use_the_thresholds() -> None:
    logits, targets = torch.tensor(column([3, 2, -1])), torch.tensor(column([1, 0, 0]))

    def f1(thresholds: torch.Tensor | None) -> float | None:
        return multilabel_metrics(logits, targets, labels=["a"], thresholds=thresholds).f1

    assert f1(None) == pytest.approx(2 / 3)
    assert f1(torch.tensor([2.5])) == 1


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(NonFiniteLogitsError):
        chosen(column([np.nan, 1]), column([1, 0]))
    with pytest.raises(ValueError, match="beta must be positive"):
        chosen(column([1]), column([1]), 0)


def test_unknown_targets_are_not_counted() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 1, generator=generator)
    targets = (torch.randn(200, 1, generator=generator) + logits > 0).float()
    known = torch.rand(200, generator=generator) < 0.6
    masked = torch.where(known[:, None], targets, torch.nan)

    threshold = best_thresholds(logits, masked, beta=1.0)[0]

    predicted = (logits[known, 0] >= threshold).numpy()
    best = max(f1_score(targets[known, 0], logits[known, 0] >= value) for value in logits[known, 0])
    assert f1_score(targets[known, 0], predicted) == pytest.approx(best)
