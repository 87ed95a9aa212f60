import numpy as np
import pytest
import torch

from canopy_search.training.data.labels.targets import UNKNOWN
from canopy_search.training.optimization.priors import prior_logits

TARGETS = np.array([[1, 0, 1], [0, 0, UNKNOWN], [0, 0, 1], [0, 0, UNKNOWN]], np.uint8)


def test_logits_are_log_odds_of_the_known_targets_of_which_one_differs_at_least():
    found = prior_logits("bce", TARGETS).sigmoid()
    assert found.tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 2])


def test_a_label_that_nobody_knows_is_as_likely_as_not():
    assert prior_logits("bce", np.full((3, 2), UNKNOWN, np.uint8)).tolist() == [0.0, 0.0]


def test_softmax_of_the_logits_is_the_share_of_each_exclusive_label():
    targets = np.eye(3, dtype=np.uint8)[[0, 0, 1, 2]]
    found = torch.softmax(prior_logits("cross_entropy", targets), dim=0)
    assert found.tolist() == pytest.approx([0.5, 0.25, 0.25])
