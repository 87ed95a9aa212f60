from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    fbeta_score,
    hamming_loss,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

from canopy_search.training.errors import TrainingError
from canopy_search.training.metrics import (
    NonFiniteLogitsError,
    accuracies_of,
    average_precision,
    multilabel_metrics,
    one_vs_rest_logits,
    top_k_accuracy,
)
from tests.examples import examples

Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def random_case(images: int, labels: int, *, positive: float = 0.3, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, labels)) < positive).astype(np.int64)
    logits = (rng.standard_normal((images, labels)) + targets).astype(np.float32)
    return logits, targets


# torchmetrics divides in float32; our own AP is exact.
FLOAT32 = 1e-6


def measure(logits: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]):
    names = [f"label{i}" for i in range(logits.shape[1])]
    return multilabel_metrics(torch.tensor(logits), torch.tensor(targets), labels=names)


def assert_agrees_with_scikit_learn(
    logits: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]
) -> None:
    metrics = measure(logits, targets)
    predicted = (logits >= 0).astype(np.int64)
    present = [column for column in range(targets.shape[1]) if targets[:, column].any()]
    ranked = [column for column in present if not targets[:, column].all()]

    def macro(score: Any, values: np.ndarray[Any, Any], within: float = FLOAT32) -> float | None:
        # One column at a time: scikit-learn takes a single column for a binary problem otherwise.
        columns = ranked if score is average_precision_score else present
        scores = [score(targets[:, column], values[:, column]) for column in columns]
        return pytest.approx(np.mean(scores), abs=within) if scores else None

    assert metrics.ap == macro(average_precision_score, logits, within=1e-12)
    assert metrics.f1 == macro(lambda t, p: f1_score(t, p, zero_division=0), predicted)
    assert metrics.precision == macro(
        lambda t, p: precision_score(t, p, zero_division=0), predicted
    )
    assert metrics.recall == macro(recall_score, predicted)
    assert metrics.hamming == pytest.approx(np.mean(predicted != targets), abs=1e-12)
    over_images = [
        fbeta_score(t, p, beta=2, zero_division=0) for t, p in zip(targets, predicted, strict=True)
    ]
    assert metrics.f2 == pytest.approx(np.mean(over_images), abs=FLOAT32)
    assert metrics.labels_without_positives == targets.shape[1] - len(present)
    for column, ap in enumerate(metrics.ap_per_label.values()):
        if column in ranked:
            expected = average_precision_score(targets[:, column], logits[:, column])
            assert ap == pytest.approx(expected, abs=1e-12)
        else:
            assert ap is None


def test_multilabel_scores_equal_those_of_scikit_learns_multilabel_functions():
    logits, targets = random_case(500, 17)
    predicted = (logits >= 0).astype(np.int64)
    metrics = measure(logits, targets)
    assert metrics.ap == pytest.approx(average_precision_score(targets, logits, average="macro"))
    assert metrics.f1 == pytest.approx(f1_score(targets, predicted, average="macro"))
    assert metrics.precision == pytest.approx(precision_score(targets, predicted, average="macro"))
    assert metrics.recall == pytest.approx(recall_score(targets, predicted, average="macro"))
    assert metrics.hamming == pytest.approx(hamming_loss(targets, predicted))
    assert metrics.f2 == pytest.approx(
        fbeta_score(targets, predicted, beta=2, average="samples", zero_division=0)
    )


@pytest.mark.parametrize(
    ("images", "labels", "positive"),
    [(100, 17, 0.05), (100, 1, 0.4), (1, 5, 0.5), (1, 1, 1.0), (40, 3, 1.0), (40, 3, 0.0)],
)
def test_agrees_with_scikit_learn_in_degenerate_shapes(images: int, labels: int, positive: float):
    assert_agrees_with_scikit_learn(*random_case(images, labels, positive=positive))


def test_agrees_with_scikit_learn_on_logits_rounded_to_bfloat16():
    logits, targets = random_case(400, 6)
    rounded = torch.tensor(logits).bfloat16().float().numpy()
    assert len(np.unique(rounded)) < rounded.size / 2, "the case is meant to have many ties"
    assert_agrees_with_scikit_learn(rounded, targets)


LOGITS = st.sampled_from(
    [-1e4, -30.0, -1.0, -0.0, 0.0, 1e-7, 0.5, 1.0, 17.0, 18.0, 1e4]
) | st.floats(-1e4, 1e4, width=32)


@examples(few=25)
@given(data=st.data(), images=st.integers(1, 12), labels=st.integers(1, 4))
def test_agrees_with_scikit_learn_on_any_input(data: st.DataObject, images: int, labels: int):
    logits = data.draw(hnp.arrays(np.float32, (images, labels), elements=LOGITS))
    targets = data.draw(hnp.arrays(np.int64, (images, labels), elements=st.integers(0, 1)))
    assert_agrees_with_scikit_learn(logits, targets)


@given(data=st.data(), images=st.integers(2, 12))
def test_the_order_of_the_images_does_not_matter(data: st.DataObject, images: int):
    logits = data.draw(hnp.arrays(np.float32, (images, 2), elements=LOGITS))
    targets = data.draw(hnp.arrays(np.int64, (images, 2), elements=st.integers(0, 1)))
    order = np.array(data.draw(st.permutations(range(images))))
    expected = average_precision(torch.tensor(logits), torch.tensor(targets))
    shuffled = average_precision(torch.tensor(logits[order]), torch.tensor(targets[order]))
    # The sum's order may change with it, hence not bit for bit.
    np.testing.assert_allclose(shuffled, expected, rtol=1e-14)


def test_ranks_by_logits_where_probabilities_saturate():
    # From about 17 on, the float32 sigmoid is exactly 1 and the four images would tie.
    logits = torch.tensor([[40.0], [30.0], [25.0], [20.0]])
    targets = torch.tensor([[1], [1], [0], [0]])
    assert torch.unique(torch.sigmoid(logits)).numel() == 1
    assert average_precision(logits, targets).tolist() == [1.0]
    assert average_precision(torch.sigmoid(logits), targets).tolist() == [0.5]


def test_a_label_without_positives_is_left_out_of_every_macro_figure():
    logits, targets = random_case(200, 4)
    alone = measure(logits, targets)
    without = measure(
        np.hstack([logits, np.ones((200, 1), np.float32)]),
        np.hstack([targets, np.zeros((200, 1), np.int64)]),
    )
    assert without.labels_without_positives == 1
    assert without.ap_per_label["label4"] is None
    assert (without.ap, without.f1, without.precision, without.recall) == (
        alone.ap,
        alone.f1,
        alone.precision,
        alone.recall,
    )
    # Every image got that label wrongly: this is where it does count.
    assert without.hamming > alone.hamming


def test_a_label_of_every_image_is_left_out_of_the_mean_ap_only():
    logits, targets = random_case(200, 4)
    alone = measure(logits, targets)
    always = measure(
        np.hstack([logits, np.ones((200, 1), np.float32)]),
        np.hstack([targets, np.ones((200, 1), np.int64)]),
    )
    assert always.ap == alone.ap
    assert always.ap_per_label["label4"] is None
    assert always.labels_without_positives == 0
    assert always.recall is not None
    assert alone.recall is not None
    assert always.recall > alone.recall


def masked_case(images: int = 300, labels: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits with ties, and targets of which a third are NaN."""
    logits, targets = random_case(images, labels)
    values = targets.astype(np.float32)
    values[np.random.default_rng(1).random(values.shape) < 1 / 3] = np.nan
    return torch.tensor(logits.round(1)), torch.tensor(values)


def test_unknown_targets_are_left_out_of_every_score():
    logits, targets = masked_case()
    targets[:5] = np.nan  # images of which nothing is known
    names = [f"label{i}" for i in range(logits.shape[1])]
    found = multilabel_metrics(logits, targets, labels=names)
    known = ~targets.isnan()
    by_label = [
        (targets[rows, at].numpy(), logits[rows, at].numpy(), (logits[rows, at] >= 0).numpy())
        for at in range(len(names))
        for rows in [known[:, at]]
    ]
    by_image = [
        (targets[at, columns].numpy(), (logits[at, columns] >= 0).numpy())
        for at in range(len(logits))
        for columns in [known[at]]
        if columns.any()
    ]

    ap = [average_precision_score(true, scores) for true, scores, _ in by_label]
    assert list(found.ap_per_label.values()) == pytest.approx(ap, abs=1e-12)
    assert found.ap == pytest.approx(np.mean(ap), abs=1e-12)
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        expected = np.mean([score(true, predicted) for true, _, predicted in by_label])
        assert getattr(found, name) == pytest.approx(expected, abs=FLOAT32)
    assert found.hamming == pytest.approx(
        hamming_loss(targets[known].numpy(), (logits >= 0)[known].numpy()), abs=1e-12
    )
    f2 = [fbeta_score(true, predicted, beta=2, zero_division=0) for true, predicted in by_image]
    assert found.f2 == pytest.approx(np.mean(f2), abs=FLOAT32)


def test_a_label_that_is_known_to_be_present_only_has_no_ap():
    targets = torch.tensor([[1.0], [np.nan], [1.0]])
    assert np.isnan(average_precision(torch.zeros(3, 1), targets)).all()


@given(data=st.data(), images=st.integers(1, 8), labels=st.integers(2, 5))
def test_softmax_probabilities_are_the_sigmoid_of_one_vs_rest_logits(
    data: st.DataObject, images: int, labels: int
):
    logits = torch.tensor(data.draw(hnp.arrays(np.float32, (images, labels), elements=LOGITS)))
    found = one_vs_rest_logits(logits)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.double().sigmoid(), logits.double().softmax(1))


def test_top_k_accuracy_agrees_with_scikit_learn():
    random = np.random.default_rng(0)
    logits = random.standard_normal((200, 9)).astype(np.float32)
    classes = random.integers(0, 9, 200)
    targets = torch.tensor(np.eye(9)[classes])
    for k in (1, 5):
        expected = top_k_accuracy_score(classes, logits, k=k)
        assert top_k_accuracy(torch.tensor(logits), targets, k) == pytest.approx(expected)
    assert list(accuracies_of(torch.tensor(logits), targets)) == ["accuracy", "top5_accuracy"]


def test_no_label_with_positives_leaves_the_macro_figures_undefined():
    metrics = measure(np.full((3, 2), -1.0, np.float32), np.zeros((3, 2), np.int64))
    assert (metrics.ap, metrics.f1, metrics.precision, metrics.recall) == (None,) * 4
    assert metrics.hamming == 0.0
    assert metrics.f2 == 0.0


def test_a_logit_of_zero_counts_as_predicted():
    metrics = measure(np.zeros((1, 1), np.float32), np.ones((1, 1), np.int64))
    assert metrics.recall == 1.0


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_targets_may_be_of_any_dtype(dtype: torch.dtype):
    logits, targets = random_case(50, 3)
    names = ["a", "b", "c"]
    given_dtype = multilabel_metrics(
        torch.tensor(logits), torch.tensor(targets).to(dtype), labels=names
    )
    as_integers = multilabel_metrics(torch.tensor(logits), torch.tensor(targets), labels=names)
    assert given_dtype == as_integers


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers_raise(bad: float):
    logits = torch.zeros(3, 2)
    logits[1, 1] = bad
    with pytest.raises(NonFiniteLogitsError, match="1 of 6 logits") as caught:
        multilabel_metrics(logits, torch.zeros(3, 2), labels=["a", "b"])
    assert isinstance(caught.value, TrainingError)
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(2, 3), "must both be"),
        (torch.zeros(3), torch.zeros(3), "must both be"),
        (torch.zeros(0, 2), torch.zeros(0, 2), "nothing to measure"),
        (torch.zeros(3, 2, dtype=torch.bfloat16), torch.zeros(3, 2), "bfloat16"),
    ],
)
def test_input_of_the_wrong_form_raises(logits: Any, targets: Any, message: str):
    with pytest.raises(ValueError, match=message):
        average_precision(logits, targets)


def test_as_many_names_as_columns():
    with pytest.raises(ValueError, match="3 names for 2 columns"):
        multilabel_metrics(torch.zeros(4, 2), torch.ones(4, 2), labels=["a", "b", "c"])
